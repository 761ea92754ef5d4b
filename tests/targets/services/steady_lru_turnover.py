# SPDX-License-Identifier: MIT
"""a full LRU cache whose entries live 80 s"""

import collections

import service

RIGHT = ("steady",)
CACHE = collections.OrderedDict()
CACHE_SIZE = 16000


def cached(number):
    CACHE[number] = "page %0800d" % number
    if len(CACHE) > CACHE_SIZE:
        CACHE.popitem(last=False)


def prepare():
    for number in range(-CACHE_SIZE, 0):
        cached(number)


def handle(number):
    if number % 2:
        cached(number)
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=400, prepare=prepare)
