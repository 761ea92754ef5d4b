# SPDX-License-Identifier: MIT
"""The target of budget.py: its allocation rate changes by a factor of 1,000 and more from one phase to the next.

    phases.py [THREADS]

Each line on standard input ("cycle") runs through PHASES once and prints {"phases": [{"kind", "work", "cpu"}]}, two lists: work
done and processor seconds used in each BIN seconds. The process ends with its input. Work is counted in chunks: of 1,000
allocations in a burst, of one allocation and much arithmetic in a quiet phase; an idle phase wakes up ten times a
second for a quiet chunk.
"""

import sys
import threading
import time

import meter

BIN = 0.1
PHASES = [("quiet", 1.5), ("burst", 2.5), ("quiet", 2.0), ("idle", 1.5), ("burst", 2.5), ("quiet", 1.0), ("idle", 1.0)]
SIZES = (64,) * 1000
FEW, MANY = (None,) * 6, (None,) * 8000


def burst():
    """1,000 allocations, each freed at once, some 5 million a second. bytes(n) comes from no free list."""
    make, number = bytes, 0
    for size in SIZES:
        make(size)
        for _ in FEW:
            number = (number + 7) & 0x7F


def quiet():
    """One allocation. As in a burst, all numbers are small ones that the interpreter keeps: they cost no allocation."""
    number = len(bytes(64))
    for _ in MANY:
        number = (number + 7) & 0x7F


def idle():
    time.sleep(0.1)
    quiet()


CHUNKS = {"burst": burst, "quiet": quiet, "idle": idle}


def work(kind, begin, bins, cpu=None):
    """Chunks of this kind until the bins, which begin at `begin`, are full; one thread notes the processor time of all."""
    chunk, clock = CHUNKS[kind], time.perf_counter
    noted, before = 0, time.process_time()
    while True:
        at = int((clock() - begin) / BIN)
        if cpu is not None and at != noted:
            now = time.process_time()
            cpu[noted], noted, before = now - before, at, now
        if at >= len(bins):
            break
        chunk()
        bins[at] += 1


def phase(kind, seconds, threads):
    """The bins of all threads, summed. A thread lives as long as the phase, as a pool's worker would."""
    bins = [[0] * round(seconds / BIN) for _ in range(threads)]
    cpu = [0.0] * len(bins[0])
    begin = time.perf_counter()
    others = [threading.Thread(target=work, args=(kind, begin, own)) for own in bins[1:]]
    for thread in others:
        thread.start()
    work(kind, begin, bins[0], cpu)
    for thread in others:
        thread.join()
    return {"kind": kind, "work": [sum(column) for column in zip(*bins)], "cpu": cpu}


if __name__ == "__main__":
    threads_wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    meter.ready("self")
    for _ in iter(sys.stdin.readline, ""):
        meter.say(phases=[phase(kind, seconds, threads_wanted) for kind, seconds in PHASES])
