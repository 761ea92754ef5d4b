# SPDX-License-Identifier: MIT
"""a cache without a limit: answers by key"""

import service

CACHE = {}


def leak(number):
    key = "/item/%040d" % number  # LEAK: the key stays with its answer
    CACHE[key] = "<html>%0800d</html>" % number  # LEAK


def handle(number):
    CACHE.get("/item/%040d" % (number // 2))
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, containers=[CACHE])
