# SPDX-License-Identifier: MIT
"""garbage in cycles, which the collector takes away now and then: a sawtooth"""

import gc

import service

RIGHT = ("steady",)


class Node:
    def __init__(self, text):
        self.text = text
        self.me = self


def handle(number):
    Node("node %0600d" % number)
    service.work(number)


if __name__ == "__main__":
    gc.set_threshold(3000, 5, 5)
    service.run(handle, rate=700)
