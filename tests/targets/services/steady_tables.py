# SPDX-License-Identifier: MIT
"""50 MB of tables made at start, then nothing new"""

import service

RIGHT = ("steady",)
TABLES = {}


def prepare():
    for number in range(100000):
        TABLES["row %040d" % number] = ("value %0300d" % number, number)


def handle(number):
    service.work(number)
    TABLES["row %040d" % (number % 100000)]


if __name__ == "__main__":
    service.run(handle, rate=600, prepare=prepare)
