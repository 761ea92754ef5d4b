# SPDX-License-Identifier: MIT
"""A program with a large heap of mixed objects that goes on working, for heap.py.

    big_heap.py MILLIONS

Answers a line of JSON to each command on standard input:

    start        a thread begins to work; its progress is noted every 5 ms
    stop         it ends: {"bins": [[time of CLOCK_MONOTONIC, work so far, its processor time so far], ..]}
    guppy, objgraph, gc
                 counts all objects by type from within, in the main thread: {"seconds", "objects", "more_bytes"}: memory at the peak
                 above that before
"""

import collections
import gc
import json
import sys
import threading
import time

BIN = 0.005


class Session:
    def __init__(self, number):
        self.number = number
        self.token = None


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x):
        self.x = x
        self.y = None


def fill(count):
    """About count objects, and as many times 100 bytes."""
    part = count // 11
    return [
        [Session(i) for i in range(part)],
        [{"id": None, "name": i} for i in range(part)],
        ["user-%d of the service, somewhere in a text that is not so short, as they are in the real world, or so it seems" % i for i in range(2 * part)],
        [[i] for i in range(part)],
        [(i, None) for i in range(part)],
        [Point(i) for i in range(part // 2)],
        [bytes(2000 + i % 100) for i in range(part // 50)],
    ]


class Worker:
    def __init__(self):
        self.bins = []
        self.going = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        done, next_bin = 0, 0
        while self.going:
            for i in range(100):
                done += len(str(i)) > 0
            now = time.monotonic()
            if now >= next_bin:
                self.bins.append((now, done, time.thread_time()))
                next_bin = now + BIN

    def stop(self):
        self.going = False
        self.thread.join()
        return {"bins": self.bins}


def memory(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def count_guppy():
    import guppy

    return guppy.hpy().heap().count


def count_objgraph():
    import objgraph

    return sum(objgraph.typestats().values())


def count_gc():
    return sum(collections.Counter(map(type, gc.get_objects())).values())


def count(how):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest resident size begins anew
    before, start = memory("VmRSS"), time.monotonic()
    objects = {"guppy": count_guppy, "objgraph": count_objgraph, "gc": count_gc}[how]()
    return {"seconds": time.monotonic() - start, "objects": objects, "more_bytes": memory("VmHWM") - before}


def main():
    gc.disable()
    keep = fill(int(float(sys.argv[1]) * 1e6))
    gc.collect()
    print(json.dumps({"ready": len(keep), "rss_bytes": memory("VmRSS")}), flush=True)
    worker = None
    for line in sys.stdin:
        command = line.strip()
        if command == "start":
            worker, answer = Worker(), {}
        elif command == "stop":
            answer = worker.stop()
        else:
            try:
                answer = count(command)
            except Exception as error:
                answer = {"error": "%s: %s" % (type(error).__name__, error)}
        print(json.dumps(answer), flush=True)


main()
