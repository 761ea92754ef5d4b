# SPDX-License-Identifier: MIT
"""lru_cache without a limit on a method: keeps arguments, results and every self"""

import functools

import service


class Repository:
    @functools.lru_cache(maxsize=None)
    def load(self, number):
        return "row %0600d" % number  # LEAK: a result for ever


def leak(number):
    Repository().load(number)  # LEAK: the repository, the key, the entry


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2)
