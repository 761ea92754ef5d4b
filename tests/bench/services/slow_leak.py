# SPDX-License-Identifier: MIT
"""A slow leak, 10 KB a second, amid about a million allocations a second that are all freed again.

The leak follows the clock, not the requests, so that a slower service leaks as much.
"""

import time

import meter

LEAK_BYTES = 512
LEAK_SECONDS = 0.0512  # 10,000 bytes a second
LETTERS = "abcdefghijklmnopqrstuvwxyz" * 16
forgotten = []
state = {"next": 0.0}


class Row:
    __slots__ = ("key", "value", "text")

    def __init__(self, key, value, text):
        self.key, self.value, self.text = key, value, text


def leak():
    now = time.monotonic()
    if now >= state["next"]:
        state["next"] = max(state["next"] + LEAK_SECONDS, now - 1.0)
        forgotten.append(bytes(LEAK_BYTES - 33))  # LEAK: 33 bytes of header make it LEAK_BYTES


def checksum(start):
    """Work that allocates nothing: all numbers are small, all letters are kept by the interpreter."""
    total = start
    for letter in LETTERS:
        total = (total + ord(letter)) & 0x7F
    return total


def request():
    """Makes some rows, sums, orders and joins them, drops them."""
    rows = [Row(number, number * 7 % 9973, "row %d" % number) for number in range(1000, 1080)]
    rows.sort(key=lambda row: row.value)
    for row in rows:
        checksum(row.key & 0x7F)
    leak()
    return ",".join([row.text for row in rows])


if __name__ == "__main__":
    meter.loop(request)
