# SPDX-License-Identifier: MIT
"""a table of fixed keys whose values are replaced, each after 50 s"""

import service

RIGHT = ("steady",)
KEYS = 10000
TABLE = {}


def update(number):
    TABLE[number % KEYS] = ["state %0200d" % number, number * 0.5, {"seen": number}]


def handle(number):
    update(number)
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=200, prepare=lambda: [update(number) for number in range(KEYS)])
