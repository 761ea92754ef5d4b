# SPDX-License-Identifier: MIT
"""thread-locals of workers that live for ever"""

import queue
import threading

import service

LOCAL = threading.local()
REQUESTS = queue.SimpleQueue()
DONE = [0, 0, 0, 0]  # by each worker, which leaks when it gets to it


def trail():
    if not hasattr(LOCAL, "trail"):
        LOCAL.trail = []
    return LOCAL.trail


def leak(number):
    trail().append("step %0700d" % number)  # LEAK: nobody clears it after the request


def worker(index):
    while True:
        number = REQUESTS.get()
        service.work(number)
        leak(number)
        DONE[index] += 1


def start():
    for index in range(len(DONE)):
        threading.Thread(target=worker, args=(index,), daemon=True).start()


if __name__ == "__main__":
    objects = service.truth_wanted()
    if objects:
        service.calibrate(leak, objects, [trail()])
    else:
        service.ready(start)
        service.serve(REQUESTS.put, rate=500, count=lambda: sum(DONE))
