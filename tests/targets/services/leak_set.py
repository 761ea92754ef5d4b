# SPDX-License-Identifier: MIT
"""a set of what was seen"""

import service

SEEN = set()


def leak(number):
    SEEN.add("%0500x" % (number * 7919))  # LEAK


def handle(number):
    ("%0500x" % number) in SEEN
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=700, containers=[SEEN])
