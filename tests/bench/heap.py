#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A census of a large heap: how fast, at what cost in memory, and what the process feels of it, beside guppy3 and objgraph.

    heap.py [--quick] [--python COMMAND] [--millions N] [--rounds N]

The target (services/big_heap.py) holds a GB in 10 million objects and works on in a thread; leaksnoop looks from outside,
the others from within, where they take the interpreter's lock and memory. "rate" is the thread's work a second while it is
being looked at by that before, "by own time" the same by its processor time, "standstill" the longest time it did
nothing. "more memory" is that of the tracer's own process, or what the target took at its peak above what it had. leaksnoop
is not pinned and shares the machine with the target. COMMAND: words joined by commas, as scripts/pythons.sh prints them.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import rig
from rig import Child, Failed, Python

PACKAGES = ["guppy3", "objgraph"]
BARE_SECONDS = 1.5
MB = 1e6


def look(pid):
    """One census: (report, wall seconds, bytes of memory at its peak)."""
    began = time.monotonic()
    process = subprocess.Popen([rig.LEAKSNOOP, "heap", str(pid), "--format", "json"], stdout=subprocess.PIPE)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status) if hasattr(os, "waitstatus_to_exitcode") else status
    if status:
        raise Failed("leaksnoop heap: status %d" % status)
    return json.loads(text), time.monotonic() - began, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def rates(bins, start, end):
    """(work a second of wall time, of the thread's own time, longest gap) between two moments."""
    inside = [row for row in bins if start <= row[0] <= end]
    if len(inside) < 3:
        return 0.0, 0.0, end - start
    wall, work, own = (inside[-1][i] - inside[0][i] for i in range(3))
    edges = [start, *(row[0] for row in inside), end]
    return work / wall, work / own if own else 0.0, max(b - a for a, b in zip(edges, edges[1:]))


def while_working(target, act):
    """Does act() while the target works: (what act says, rate by bare rate, the same by own time, standstill)."""
    target.tell("start")
    target.answer(10)
    time.sleep(BARE_SECONDS)
    start = time.monotonic()
    answer = act()
    end = time.monotonic()
    target.tell("stop")
    bins = target.answer(60)["bins"]
    bare, during = rates(bins, start - BARE_SECONDS, start), rates(bins, start, end)
    return answer, during[0] / bare[0], during[1] / bare[1], during[2]


def median(values):
    return statistics.median(values)


def row(name, seconds, objects, more, rate, own, standstill):
    print("%-12s %8.2f s %12s objects %8.0f MB more memory   rate %.2f  by own time %.2f  standstill %7.1f ms"
          % (name, seconds, "{:,}".format(objects), more / MB, rate, own, standstill * 1e3), flush=True)


def bench_leaksnoop(target, rounds, rss):
    results = [while_working(target, lambda: look(target.process.pid)) for _ in range(rounds)]
    reports = [answer[0] for answer, *_ in results]
    seconds = median([report["quality"]["seconds"] for report in reports])
    read = median([report["quality"]["read_bytes"] for report in reports])
    memory = max(answer[2] for answer, *_ in results)
    row("leaksnoop", median([answer[1] for answer, *_ in results]), reports[-1]["totals"]["objects"], memory,
        *(median([result[i] for result in results]) for i in (1, 2)), max(result[3] for result in results))
    print("%-12s %8.2f s for the census itself: %.2f GB/s, %.0f ns an object; processor time %.2f s; peak memory %.1f %% of the target's %.0f MB; "
          "%d retries, %d refused" % ("", seconds, read / seconds / 1e9, seconds * 1e9 / reports[-1]["totals"]["objects"],
                                      median([answer[3] for answer, *_ in results]), 100 * memory / rss, rss / MB,
                                      sum(report["quality"]["retries"] for report in reports),
                                      sum(report["quality"]["refused"] for report in reports)), flush=True)


def bench_within(target, name, command):
    def act():
        target.tell(command)
        return target.answer(600)

    answer, rate, own, standstill = while_working(target, act)
    if "error" in answer:
        print("%-12s %s" % (name, answer["error"]))
        return
    row(name, answer["seconds"], answer["objects"], answer["more_bytes"], rate, own, standstill)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the heap, one round")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--millions", type=float)
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    python = Python(options.python)
    missing = python.equip(PACKAGES)
    place = python.place(os.path.join(rig.HERE, "services"))
    target = Child([*python.words, os.path.join(place, "big_heap.py"), str(options.millions or (1 if options.quick else 10))], rig.processors()[0])
    try:
        rss = target.answer(300)["rss_bytes"]
        print("a census of %.0f MB, Python %s" % (rss / MB, python.version))
        bench_leaksnoop(target, options.rounds or (1 if options.quick else 5), rss)
        bench_within(target, "gc.Counter", "gc")
        for package, command in (("objgraph", "objgraph"), ("guppy3", "guppy")):
            if package in missing:
                print("%-12s skipped: %s" % (package, missing[package]))
            else:
                bench_within(target, package, command)
    finally:
        target.close()
        python.close()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main()
    except (Failed, rig.Unavailable) as error:
        sys.exit("heap: %s" % error)
