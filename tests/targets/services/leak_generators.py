# SPDX-License-Identifier: MIT
"""generators suspended half-way, in a list"""

import service

STREAMS = []


def stream(number):
    buffer = "chunk %0400d" % number  # LEAK: a local of a generator that nobody finishes
    for position in range(0, len(buffer), 64):
        yield buffer[position:position + 64]


def leak(number):
    reader = stream(number)  # LEAK: the generator with its frame
    next(reader)
    STREAMS.append(reader)  # LEAK


def handle(number):
    "".join(stream(number))
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2, containers=[STREAMS])
