# SPDX-License-Identifier: MIT
"""bytes of 300 KB, each a mapping of its own"""

import service

IMAGES = []


def leak(number):
    IMAGES.append(b"p" * 300000)  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=100)
