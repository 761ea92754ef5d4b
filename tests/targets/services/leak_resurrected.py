# SPDX-License-Identifier: MIT
"""objects whose __del__ puts them into a list"""

import service

LOST = []


class Handle:
    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text

    def __del__(self):
        LOST.append(self)  # LEAK: "for later"; makes no object, but the list grows


def leak(number):
    Handle("handle %0400d" % number)  # LEAK: no one holds it, and still it stays


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2, containers=[LOST])
