# SPDX-License-Identifier: MIT
"""ctypes buffers, in a list"""

import ctypes

import service

Buffer = ctypes.c_char * 2000
BUFFERS = []


def leak(number):
    BUFFERS.append(Buffer())  # LEAK


def handle(number):
    buffer = Buffer()
    buffer.value = service.work(number).encode()
    return buffer.value


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=5, containers=[BUFFERS])
