# SPDX-License-Identifier: MIT
"""10 KB a second beside 50 MB of tables made at start"""

import service

TABLES = {}
AUDIT = []


def prepare():
    for number in range(100000):
        TABLES["row %040d" % number] = ("value %0300d" % number, number)


def leak(number):
    AUDIT.append("audit %0450d" % number)  # LEAK


def handle(number):
    service.work(number)
    TABLES["row %040d" % (number % 100000)]


if __name__ == "__main__":
    service.run(handle, leak, rate=400, every=20, prepare=prepare, containers=[AUDIT])
