# SPDX-License-Identifier: MIT
"""a pipeline of generators"""

import itertools

import service

RIGHT = ("steady",)


def read(number):
    for k in range(60):
        yield "%d,%d,%s" % (number, k, "x" * (k % 50))


def split(lines):
    for line in lines:
        yield line.split(",")


def longer(rows, size):
    return (row for row in rows if len(row[2]) > size)


def handle(number):
    rows = longer(split(read(number)), 10)
    for _, group in itertools.groupby(rows, key=lambda row: len(row[2]) // 10):
        sum(int(row[1]) for row in group)


if __name__ == "__main__":
    service.run(handle, rate=1500)
