# SPDX-License-Identifier: MIT
"""one bytearray that grows"""

import service

JOURNAL = bytearray()


def leak(number):
    JOURNAL.extend(b"%01000d" % number)  # LEAK: appended to, never cut


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=5)
