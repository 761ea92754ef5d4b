# SPDX-License-Identifier: MIT
"""ints appended to a list"""

import time

import service

TIMES = []


def leak(number):
    for offset in range(10):
        TIMES.append(time.monotonic_ns() + offset)  # LEAK: an int, and its place in the list


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, containers=[TIMES])
