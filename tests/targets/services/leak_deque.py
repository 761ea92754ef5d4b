# SPDX-License-Identifier: MIT
"""a deque without maxlen"""

import collections

import service

LOG = collections.deque()


def leak(number):
    LOG.append("%d GET /index.html %0200d" % (number, number))  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=700)
