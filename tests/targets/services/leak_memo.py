# SPDX-License-Identifier: MIT
"""a memo keyed by the number of the request"""

import service

MEMO = {}


def answer(number):
    if number not in MEMO:
        MEMO[number] = ["answer %0600d" % number, number * 2.5, number + 1000]  # LEAK: no request has the same number twice
    return MEMO[number]


def leak(number):
    answer(number)  # LEAK-CALLER
    answer(number)


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2, containers=[MEMO])
