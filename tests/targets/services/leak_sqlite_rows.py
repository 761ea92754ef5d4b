# SPDX-License-Identifier: MIT
"""rows of a database, kept in a list"""

import sqlite3

import service

ROWS = []
DATABASE = sqlite3.connect(":memory:", isolation_level=None)
QUERY = "SELECT id, id || ':' || name FROM item WHERE id BETWEEN ? AND ?"


def prepare():
    DATABASE.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
    DATABASE.executemany("INSERT INTO item VALUES (?, ?)", ((1000 + k, "name %0400d" % k) for k in range(500)))


def leak(number):
    first = 1000 + number % 490
    ROWS.append(DATABASE.execute(QUERY, (first, first + 4)).fetchall())  # LEAK


def handle(number):
    DATABASE.execute("SELECT count(*) FROM item WHERE id < ?", (1000 + number % 490,)).fetchone()
    service.work(number)


prepare()
if __name__ == "__main__":
    service.run(handle, leak, rate=400, every=2, containers=[ROWS])
