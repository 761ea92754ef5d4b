# SPDX-License-Identifier: MIT
"""A heap of known contents, which grows on command. Lines on standard input:

    grow N         N more Session, each with a str, a bytes, a float and an int of its own and a list of them; answers "grown N"
    truth          answers "truth {type: [count, sum of sys.getsizeof()]}" of the classes below, counted by itself
    auto RATE      from now on RATE more Session a second; answers "auto", and then says "at TIME COUNT" (time.time()) now and then

With --hostile it makes classes whose names would steer a terminal, break a line or fill a page first. With --threads N as many threads allocate
and free as fast as they can.
"""

import argparse
import array
import gc
import json
import sys
import threading
import time

import targetlib


class Session:
    def __init__(self, number):
        self.number = 10 ** 12 + number
        self.text = "session %030d" % number
        self.parts = [b"bytes %030d" % number, number + 0.25]


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, number):
        self.a = number
        self.b = None


class Tree(dict):
    pass


class Point(tuple):
    __slots__ = ()


KEPT = []
CLASSES = (Session, Slotted, Tree, Point)
HOSTILE = ["evil\x9b31m\u2028", "right\u202eleft", "long" * 500, "\\", "{\"a\": 1}", "\u0434\u043e\u043c", "\n\x1b[2J"]


def grow(count):
    base = len(KEPT)
    KEPT.extend(Session(base + i) for i in range(count))


def truth():
    """Only classes whose objects the collector knows are counted; sizes as the interpreter itself says them."""
    found = {cls.__name__: [0, 0] for cls in CLASSES}
    for thing in gc.get_objects():
        if type(thing) in CLASSES:
            row = found[type(thing).__name__]
            row[0] += 1
            row[1] += sys.getsizeof(thing)
    return found


def auto(rate):
    start = time.monotonic()
    done = 0
    while True:
        due = int((time.monotonic() - start) * rate)
        grow(due - done)
        done = due
        targetlib.say("at %.6f %d" % (time.time(), len(KEPT)))
        time.sleep(0.01)


def churn():
    """Much comes and goes, of all sizes and kinds."""
    number = 0
    while True:
        number += 1
        things = [{"n": number, i: [str(i)] * (i % 50)} for i in range(200)]
        things += [bytearray(i * 7) for i in range(200)]
        del things


def prepare(hostile):
    others = [Slotted(i) for i in range(501)] + [Tree({i: i, "a": i}) for i in range(302)] + [Point((i, i)) for i in range(103)]
    others.append(array.array("d", range(1000)))
    if hostile:
        for name in HOSTILE:
            cls = type(name, (), {"__module__": name})
            others += [cls() for _ in range(1000)]
    return others


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    targetlib.begin()
    targetlib.quiet_signals()
    others = prepare(args.hostile)
    grow(1000)
    for _ in range(args.threads):
        threading.Thread(target=churn, daemon=True).start()
    gc.collect()
    targetlib.say("ready")
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "grow":
            grow(int(rest[0]))
            targetlib.say("grown %d" % len(KEPT))
        elif command == "truth":
            targetlib.say("truth " + json.dumps(truth()))
        elif command == "auto":
            targetlib.say("auto")
            auto(float(rest[0]))
    assert others
    targetlib.stay()


if __name__ == "__main__":
    main()
