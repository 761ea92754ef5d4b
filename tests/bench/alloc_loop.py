# SPDX-License-Identifier: MIT
"""An allocation-bound loop: as little Python between two allocations as Python allows.

    alloc_loop.py DEPTH [TRACEMALLOC_FRAMES]       (also as python -c, so that it needs no file in a chroot)

Recurses DEPTH frames deep, then makes and drops objects for ever. Prints the seconds a batch took, one batch a line:
each batch makes BATCH blocks through the obj domain and frees them.
"""

import sys
import time

BATCH = 100000
SIZES = [64] * 1000


def churn():
    # bytes(n) is one block, of no free list: one allocation and one free a turn.
    make = bytes
    while True:
        start = time.perf_counter()
        for _ in range(BATCH // 1000):
            for size in SIZES:
                make(size)
        print("%.6f" % (time.perf_counter() - start), flush=True)


def deep(depth):
    if depth <= 1:
        churn()
    else:
        deep(depth - 1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        import tracemalloc

        tracemalloc.start(int(sys.argv[2]))
    sys.setrecursionlimit(1000)
    deep(int(sys.argv[1]) - 1)
