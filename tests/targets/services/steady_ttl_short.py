# SPDX-License-Identifier: MIT
"""a store whose entries live 5 s"""

import collections
import time

import service

# It levels off within 5 s of the start: an observer who comes 2 s after it may see the end of that.
RIGHT = ("steady", "levelling")
LIFETIME = 5
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
