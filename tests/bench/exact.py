#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What exact mode costs: an allocation-bound loop bare, under leaksnoop and under tracemalloc, interleaved in one run.

    exact.py [--rounds N] [LABEL=COMMAND]...        interpreters as scripts/pythons.sh prints them; default: /usr/bin/python3

Each round measures every case once, in turn; a case's figure is the median of its rounds, a ratio is to the bare loop of
the same run. A hit is one probe hit: an allocation of a small block is one, its free another.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEAKSNOOP = os.environ.get("LEAKSNOOP", os.path.join(ROOT, "build", "leaksnoop"))
LOOP = os.path.join(ROOT, "tests", "bench", "alloc_loop.py")
BATCH = 100000  # allocations of one batch, as in alloc_loop.py
DEPTHS = (2, 20)
FRAMES = (1, 25)


class Loop:
    """The loop as a process: its batches, in seconds each."""

    def __init__(self, command, *args):
        self.process = subprocess.Popen([*command, "-u", "-c", open(LOOP).read(), *map(str, args)], stdout=subprocess.PIPE, text=True)
        self.batch()

    def batch(self):
        return float(self.process.stdout.readline())

    def batches(self, seconds):
        """The batches of the next seconds, the first (begun before) left out."""
        end = time.monotonic() + seconds
        self.batch()
        found = []
        while time.monotonic() < end or not found:
            found.append(self.batch())
        return statistics.median(found)

    def close(self):
        self.process.kill()
        self.process.wait()


def under_leaksnoop(loop, frames):
    """(seconds a batch, allocations seen / happened)"""
    tracer = subprocess.Popen([LEAKSNOOP, "attach", str(loop.process.pid), "--mode", "exact", "--frames", str(frames), "--format", "json", "--top", "1"],
                              stdout=subprocess.PIPE, text=True)
    # Armed when a batch takes much longer than before.
    bare = loop.batch()
    deadline = time.monotonic() + 10
    while loop.batch() < bare * 2 and time.monotonic() < deadline:
        pass
    seconds = loop.batches(0.7)
    tracer.send_signal(signal.SIGINT)
    # The loop writes into a pipe that must not fill up while the tracer ends.
    report = json.loads(tracer.communicate()[0])
    while loop.batch() > bare * 2:
        pass
    return seconds, report["coverage"]["ratio"]


def measure(command, depth, rounds):
    found = {}
    traced = Loop(command, depth)
    tracemalloc = {frames: Loop(command, depth, frames) for frames in FRAMES}
    for loop in tracemalloc.values():
        loop.process.send_signal(signal.SIGSTOP)
    ratios = []
    for _ in range(rounds):
        found.setdefault("bare", []).append(traced.batches(0.3))
        for frames in FRAMES:
            seconds, ratio = under_leaksnoop(traced, frames)
            found.setdefault("leaksnoop exact, %d frames" % frames, []).append(seconds)
            ratios.append(ratio)
        traced.process.send_signal(signal.SIGSTOP)
        for frames, loop in tracemalloc.items():
            loop.process.send_signal(signal.SIGCONT)
            found.setdefault("tracemalloc(%d)" % frames, []).append(loop.batches(0.5))
            loop.process.send_signal(signal.SIGSTOP)
        traced.process.send_signal(signal.SIGCONT)
    for loop in (traced, *tracemalloc.values()):
        loop.close()
    return {name: statistics.median(values) for name, values in found.items()}, min(ratios)


def show(label, depth, found, coverage):
    bare = found["bare"]
    print("%s, %d Python frames deep: bare %.3f us an allocation and its free; least coverage %.6f" %
          (label, depth, bare / BATCH * 1e6, coverage))
    for name, seconds in found.items():
        if name == "bare":
            continue
        added = (seconds - bare) / BATCH * 1e6
        hit = "  %.2f us a hit" % (added / 2) if name.startswith("leaksnoop") else ""
        print("  %-28s %6.1f times slower  +%.2f us%s" % (name, seconds / bare, added, hit))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("interpreters", nargs="*", default=["debian=/usr/bin/python3"])
    options = parser.parse_args()
    for word in options.interpreters:
        label, command = word.split("=", 1)
        for depth in DEPTHS:
            show(label, depth, *measure(command.split(","), depth, options.rounds))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
