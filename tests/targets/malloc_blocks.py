# SPDX-License-Identifier: MIT
"""1.5 million blocks of malloc()'s own, 100 MB; then it sleeps."""

import ctypes

import targetlib

if __name__ == "__main__":
    libc = ctypes.CDLL(None)
    libc.strdup.restype = ctypes.c_void_p
    text = ctypes.create_string_buffer(b"x" * 56)
    for _ in range(1500000):
        libc.strdup(text)
    targetlib.quiet_signals()
    targetlib.begin()
    targetlib.stay("ready")
