# SPDX-License-Identifier: MIT
"""itertools.tee with a branch that nobody reads"""

import itertools

import service


def lines():
    for number in itertools.count():
        yield "line %0250d" % number  # LEAK: waits in the tee for the other branch


FAST, SLOW = itertools.tee(lines())


def leak(number):
    next(FAST)  # LEAK: the blocks of the tee


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600)
