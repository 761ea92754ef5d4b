# SPDX-License-Identifier: MIT
"""a store whose entries live 25 s"""

import collections
import time

import service

# It levels off 25 s after the start, within the window of an observer who comes early; steady to a later one.
RIGHT = ("levelling", "steady")
LIFETIME = 25
STORE = {}
EXPIRES = collections.deque()


def expire(now):
    while EXPIRES and EXPIRES[0][0] < now:
        del STORE[EXPIRES.popleft()[1]]


def handle(number):
    now = time.monotonic()
    expire(now)
    STORE[number] = "session %0700d" % number
    EXPIRES.append((now + LIFETIME, number))
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=400)
