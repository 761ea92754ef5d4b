# SPDX-License-Identifier: MIT
"""60 MB of small objects 8 s after the start, of which one in each pool stays"""

import service

# 16 KiB a pool from 3.10, 4 KiB before: every 50th object of 80 bytes pins them all.
RIGHT = ("fragmentation",)
RATE = 300
KEPT = []


def request(number):
    objects = ["%031d" % (number + k) for k in range(750000)]
    KEPT.extend(objects[::50])


def handle(number):
    service.work(number)
    if number == 8 * RATE:
        request(number)


if __name__ == "__main__":
    service.run(handle, rate=RATE)
