# SPDX-License-Identifier: MIT
"""closures that hold what they were made with, in a list of callbacks"""

import service

CALLBACKS = []


def make_callback(number):
    body = "body %0400d" % number  # LEAK: held by the closure
    return lambda: (body, number)  # LEAK


def leak(number):
    CALLBACKS.append(make_callback(number))  # LEAK-CALLER: never run, never removed


def handle(number):
    sorted(service.work(number).split(), key=lambda word: (len(word), word, number))


if __name__ == "__main__":
    service.run(handle, leak, rate=700, every=2, containers=[CALLBACKS])
