# SPDX-License-Identifier: MIT
"""A store whose entries live for a while."""

import collections
import time

import service

STORE = {}
EXPIRES = collections.deque()


def expire(now):
    while EXPIRES and EXPIRES[0][0] < now:
        del STORE[EXPIRES.popleft()[1]]


def run(lifetime):
    """Serves requests, each of which stores an entry for so many seconds."""

    def handle(number):
        now = time.monotonic()
        expire(now)
        STORE[number] = "session %0700d" % number
        EXPIRES.append((now + lifetime, number))
        service.work(number)

    service.run(handle, rate=400)
