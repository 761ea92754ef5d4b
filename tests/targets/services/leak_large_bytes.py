# SPDX-License-Identifier: MIT
"""bytes of 40 KB, in a list"""

import service

UPLOADS = []


def leak(number):
    UPLOADS.append(bytes(40000))  # LEAK


def handle(number):
    bytes(20000 + number % 1000)
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=20)
