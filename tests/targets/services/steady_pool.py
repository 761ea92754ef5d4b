# SPDX-License-Identifier: MIT
"""a pool of connections, each replaced after 1,000 uses"""

import collections

import service

RIGHT = ("steady",)
POOL = collections.deque()
USES = 1000


class Connection:
    def __init__(self):
        self.uses = 0
        self.buffer = bytearray(16384)
        self.statements = {"statement %d" % k: "SELECT %0100d" % k for k in range(20)}

    def query(self, number):
        self.uses += 1
        self.buffer[:8] = b"%08d" % (number % 100000000)
        return service.work(number)


def handle(number):
    connection = POOL.popleft()
    connection.query(number)
    POOL.append(connection if connection.uses < USES else Connection())


def prepare():
    POOL.extend(Connection() for _ in range(20))


if __name__ == "__main__":
    service.run(handle, rate=600, prepare=prepare)
