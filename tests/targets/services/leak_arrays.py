# SPDX-License-Identifier: MIT
"""arrays of numbers, in a dict by batch"""

import array

import service

BATCHES = {}
ONE_TO_HUNDRED = list(range(100))


def leak(number):
    BATCHES[number] = array.array("d", ONE_TO_HUNDRED)  # LEAK


def handle(number):
    values = array.array("d", ONE_TO_HUNDRED)
    service.work(number)
    return sum(values)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=3, containers=[BATCHES])
