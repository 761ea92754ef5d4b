# SPDX-License-Identifier: MIT
"""120 MB of large objects 8 s after the start, gone at once, but libc cannot give them back below one that stays"""

import service

RIGHT = ("high-water",)
RATE = 300
KEPT = []


def request(number):
    objects = [bytes(4000) for _ in range(30000)]
    KEPT.append(objects[-1])  # at the top of the heap


def handle(number):
    service.work(number)
    if number == 8 * RATE:
        request(number)


if __name__ == "__main__":
    service.run(handle, rate=RATE)
