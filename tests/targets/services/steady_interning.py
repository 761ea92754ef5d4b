# SPDX-License-Identifier: MIT
"""strings interned and given up"""

import collections
import sys

import service

RIGHT = ("steady",)
NAMES = collections.deque(maxlen=500)


def handle(number):
    NAMES.append(sys.intern("name %0200d" % number))
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=700)
