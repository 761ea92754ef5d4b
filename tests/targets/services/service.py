# SPDX-License-Identifier: MIT
"""What the services of this directory share: the request loop at a steady pace, the short-lived work, and the truth.

Each program is a small service that runs for ever:

    leak_*.py     leaks on the lines marked "# LEAK", at a steady rate between 10 KB and 2 MB a second
    steady_*.py   does not leak, whatever it looks like for a while
    other_*.py    has another right verdict: fragmentation, high-water, native

The first line of its docstring is its kind. RIGHT are the verdicts that are right for it (of a leak_*: leak), SINCE is
the first version that can run it. All of them answer to

    PROGRAM             says "ready", handles requests until it is killed
    PROGRAM --truth N   leak_* only: leaks N objects under tracemalloc and says in JSON what each costs on which line

The truth about a leak has two parts, so that neither disturbs the process that is traced:

- how many objects are leaked a second is counted while it runs: every 0.5 s a line of JSON {"t": time.monotonic(),
  "leaked_objects": n} is added to the file that LEAKSNOOP_TRUTH names;
- what one object costs, line by line, is measured by --truth in a process of its own, on the same interpreter: the
  same leak with no request work around it, so that no free list hands it memory which another line had allocated.
  "bytes" is what was asked of the allocator, "rounded" is that in pymalloc's steps of 16, and "container" is the part of
  "bytes" that is the table or array of a growing container: it grows in leaps that a window of observation holds or not.
"""

import argparse
import asyncio
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import targetlib

TICK = 0.01
NOTE_EVERY = 0.5
CALIBRATION_FRAMES = 25
PYMALLOC_LIMIT = 512
SHUFFLED = [(k * 167 + 41) % 256 for k in range(256)]
PAYLOAD = bytes(k * k % 251 for k in range(12000))


def checksum(data):
    """Time spent in Python code that allocates nothing: all its ints are small ones."""
    state = 0
    for byte in data:
        state = SHUFFLED[state ^ byte]
    return state


def work(number, items=5):
    """What a request costs, 0.3 ms about: text is parsed, computed with, and formatted again. Nothing of it outlives the answer."""
    checksum(PAYLOAD)
    lines = [{"id": number + k, "price": k * 1.25, "tags": ["a%d" % (k % 7), "b"]} for k in range(items)]
    request = json.loads(json.dumps({"user": "user-%d" % (number % 97), "lines": lines}))
    total = sum(line["price"] * len(line["tags"]) for line in request["lines"])
    words = [word.upper() for word in ("%s buys %d things for %.2f" % (request["user"], items, total)).split()]
    return " ".join(words)



class Counter:
    """How much was leaked so far; writes it down now and then."""

    def __init__(self, count=None):
        path = os.environ.get("LEAKSNOOP_TRUTH")
        self.file = open(path, "a", encoding="utf-8") if path else None
        self.leaked = 0
        self.count = count or (lambda: self.leaked)
        self.next = 0.0

    def note(self):
        now = time.monotonic()
        if self.file and now >= self.next:
            self.file.write(json.dumps({"t": now, "leaked_objects": self.count()}) + "\n")
            self.file.flush()
            self.next = now + NOTE_EVERY


def paced(rate):
    """Numbers of requests as they fall due, evenly; None where there is time to sleep. What a pause of over a second missed is
    left out, not caught up with."""
    started = time.monotonic()
    handled = 0
    while True:
        due = int((time.monotonic() - started) * rate)
        if due - handled > rate:
            started += (due - handled) / rate
            continue
        while handled < due:
            yield handled
            handled += 1
        yield None


def serve(handle, leak=None, rate=500, every=1, count=None):
    """Handles `rate` requests a second, and leaks one object in each `every`-th of them. Never returns. count: says how many were
    leaked where the program itself knows."""
    counter = Counter(count)
    for number in paced(rate):
        if number is None:
            counter.note()
            time.sleep(TICK)
            continue
        handle(number)
        if leak and number % every == 0:
            leak(number)
            counter.leaked += 1


async def serve_async(handle, leak=None, rate=500, every=1):
    """The same inside an event loop."""
    counter = Counter()
    for number in paced(rate):
        if number is None:
            counter.note()
            await asyncio.sleep(TICK)
            continue
        handle(number)
        if leak and number % every == 0:
            leak(number)
            counter.leaked += 1


def size_in_pymalloc(size):
    return (size + 15) // 16 * 16 if size <= PYMALLOC_LIMIT else size


def held_by_line():
    """(base name of the file, line) -> [blocks, bytes, rounded bytes, largest block] of what is traced and alive."""
    import tracemalloc  # only here: a sub-interpreter, which runs services too, may not load it

    totals = {}
    for trace in tracemalloc.take_snapshot().traces:
        frame = trace.traceback[-1]
        total = totals.setdefault((os.path.basename(frame.filename), frame.lineno), [0, 0, 0, 0])
        for index, value in enumerate((1, trace.size, size_in_pymalloc(trace.size))):
            total[index] += value
        total[3] = max(total[3], trace.size)
    return totals


class Calibration:
    """The difference between two moments under tracemalloc, as bytes per leaked object and line."""

    def __init__(self, objects, containers):
        self.objects = objects
        self.containers = containers
        self.before = None

    def container_bytes(self):
        return sum(sys.getsizeof(container) for container in self.containers)

    def begin(self):
        import tracemalloc

        tracemalloc.start(CALIBRATION_FRAMES)

    def mark(self):
        """Call after a first part has filled what is filled once."""
        self.grown = -self.container_bytes()
        self.before = held_by_line()

    def end(self):
        after = held_by_line()
        self.grown += self.container_bytes()
        place = max(after, key=lambda key: after[key][3])  # a container's table is the largest block of all
        rows = []
        for key, total in after.items():
            old = self.before.get(key, (0, 0, 0, 0))
            blocks, size, rounded = ((new - was) / self.objects for new, was in zip(total[:3], old))
            container = min(self.grown / self.objects, size) if key == place else 0
            rows.append({"file": key[0], "line": key[1], "blocks": blocks, "bytes": size, "rounded": rounded, "container": container})
        rows.sort(key=lambda row: -row["bytes"])
        whole = sum(row["bytes"] for row in rows)
        rows = [row for row in rows if row["bytes"] >= 0.01 * whole]
        targetlib.say(json.dumps({"objects": self.objects, "python": sys.version_info[:3], "lines": rows}))


def calibrate(leak, objects, containers=()):
    calibration = Calibration(objects, containers)
    calibration.begin()
    for number in range(objects // 2):
        leak(number)
    calibration.mark()
    for number in range(objects // 2, objects // 2 + objects):
        leak(number)
    calibration.end()


async def calibrate_async(leak, objects, containers=()):
    calibration = Calibration(objects, containers)
    calibration.begin()
    for number in range(objects // 2 + objects):
        if number == objects // 2:
            calibration.mark()
        leak(number)
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    calibration.end()


def truth_wanted():
    """The N of --truth N, or 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--truth", type=int, default=0, metavar="N", help="leak N objects under tracemalloc, say what each costs")
    return parser.parse_args().truth


def ready(beside=None):
    """Answers to signals, fills what is there from the start, says so."""
    targetlib.quiet_signals()
    targetlib.begin()
    if beside:
        beside()
    targetlib.say("ready")


def run(handle, leak=None, rate=500, every=1, prepare=None, containers=()):
    """What a program ends with. prepare: runs before "ready". containers: those that a leak grows, for --truth."""
    objects = truth_wanted()
    if objects:
        return calibrate(leak, objects, containers)
    ready(prepare)
    return serve(handle, leak, rate, every)


def run_async(handle, leak=None, rate=500, every=1, containers=()):
    objects = truth_wanted()
    if objects:
        return asyncio.run(calibrate_async(leak, objects, containers))
    ready()
    return asyncio.run(serve_async(handle, leak, rate, every))
