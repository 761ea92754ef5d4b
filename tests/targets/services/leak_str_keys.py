# SPDX-License-Identifier: MIT
"""metrics by label, with a label that is never the same"""

import service

METRICS = {}


def leak(number):
    METRICS["latency{path=/users/%d,trace=%0160x}" % (number, number * 104729)] = 1  # LEAK: the key is all there is


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=700, containers=[METRICS])
