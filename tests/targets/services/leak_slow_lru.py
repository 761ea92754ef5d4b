# SPDX-License-Identifier: MIT
"""10 KB a second beside a full LRU cache with turnover (entries live 10 s)"""

import collections

import service

CACHE = collections.OrderedDict()
CACHE_SIZE = 2000
AUDIT = []


def cached(number):
    CACHE[number] = "page %01000d" % number
    if len(CACHE) > CACHE_SIZE:
        CACHE.popitem(last=False)


def leak(number):
    AUDIT.append("audit %0450d" % number)  # LEAK


def handle(number):
    service.work(number)
    if number % 2:
        cached(number)


def prepare():
    for number in range(-CACHE_SIZE, 0):
        cached(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=400, every=20, prepare=prepare, containers=[AUDIT])
