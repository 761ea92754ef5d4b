# SPDX-License-Identifier: MIT
"""strings interned and given up"""

import collections
import sys

import service

# What 3.12 interns is immortal (up to 3.12.4): there this is a leak, and the default mode says so.
SINCE = (3, 13)
RIGHT = ("steady",)
NAMES = collections.deque(maxlen=500)


def handle(number):
    NAMES.append(sys.intern("name %0200d" % number))
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=700)
