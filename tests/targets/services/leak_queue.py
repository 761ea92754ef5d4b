# SPDX-License-Identifier: MIT
"""a queue that nobody drains"""

import queue

import service

OUTBOX = queue.Queue()


def leak(number):
    OUTBOX.put(("mail-%d" % number, "dear customer %0800d" % number))  # LEAK


def handle(number):
    inbox = queue.Queue()
    inbox.put(service.work(number))
    inbox.get()


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=2)
