# SPDX-License-Identifier: MIT
"""500 KB a second from malloc() itself, by a library"""

import ctypes

import service

RIGHT = ("native",)
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
SIZE = 10000


def decode(number):
    LIBC.memset(LIBC.malloc(SIZE), number % 256, SIZE)


def handle(number):
    service.work(number)
    if number % 10 == 0:
        decode(number)


if __name__ == "__main__":
    service.run(handle, rate=500)
