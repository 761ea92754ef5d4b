# SPDX-License-Identifier: MIT
"""a request of 40 MB every 7 s"""

import service

# What a peak leaves behind in the heap may be called by its name.
RIGHT = ("steady", "high-water")
RATE = 300


def report(number):
    rows = ["row %0350d" % (number + k) for k in range(100000)]
    return len(rows)


def handle(number):
    service.work(number)
    if number % (7 * RATE) == 3 * RATE:
        report(number)


if __name__ == "__main__":
    service.run(handle, rate=RATE)
