# SPDX-License-Identifier: MIT
"""a list that grows for 8 s, is written out and emptied"""

import json
import os

import service

RIGHT = ("steady",)
RATE = 400
BATCH = []


def flush():
    with open(os.devnull, "w", encoding="utf-8") as file:
        json.dump(BATCH, file)
    BATCH.clear()


def handle(number):
    service.work(number)
    BATCH.append("event %0600d" % number)
    if len(BATCH) == 8 * RATE:
        flush()


if __name__ == "__main__":
    service.run(handle, rate=RATE)
