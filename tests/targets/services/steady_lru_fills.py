# SPDX-License-Identifier: MIT
"""an LRU cache that is filled in the first 15 s, then full"""

import functools

import service

# It grows at the beginning of the window and not at its end: both words are right, as it depends on when one attached.
RIGHT = ("levelling", "steady")


@functools.lru_cache(maxsize=3000)
def page(number):
    return "page %0800d" % number


def handle(number):
    page(number % 3000 if number % 2 else number // 2 % 3000)
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=400)
