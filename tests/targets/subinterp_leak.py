# SPDX-License-Identifier: MIT
"""The code that subinterp.py runs inside each sub-interpreter: leaks at two known lines, one of them in a thread."""

import os
import threading
import time

kept = []


def leak_in_subinterpreter(size):
    kept.append(bytes(size))  # LEAK main thread of the sub-interpreter


def leak_in_thread(size, stop):
    while not stop.is_set():
        kept.append(bytes(size))  # LEAK thread of the sub-interpreter
        time.sleep(0.002)


def run(ready_fd, size, seconds):
    stop = threading.Event()
    thread = threading.Thread(target=leak_in_thread, args=(size + 1000, stop))
    thread.start()
    leak_in_subinterpreter(size)
    os.write(ready_fd, b"r")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        leak_in_subinterpreter(size)
        sum(k * k for k in range(50))
        time.sleep(0.002)
    stop.set()
    thread.join()
