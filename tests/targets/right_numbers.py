# SPDX-License-Identifier: MIT
"""The program of "right numbers": keeps exactly N things at each of 24 known lines, amid churn at a given rate.

    right_numbers.py --out FILE [--size N] [--rate ALLOCATIONS_A_SECOND] [--churn N] [--tracemalloc]

Without --tracemalloc it waits for go, so that a tracer attaches first. With it,
the same program runs at once under tracemalloc, which starts where go would
come. Both ways it writes JSON to --out and says "done <allocations, about>":

    {"size": N, "python": [3, 11, 2], "file": "...", "lines": {"float": {"line": 93, "kept": N, "free_list": 100 | null}},
     "tracemalloc": null | {"93": [blocks, bytes]}}

The lines are those with a "KEEP name" comment; "blocks" counts what one line
allocated and still lives, so a line whose thing has two parts (an object and
its array) has 2 N. It is a function of the version alone; the same in each run.

Free lists. A thing taken from a free list is no allocation: a tracer of the
allocator charges it to the line that first allocated its memory, tracemalloc
(which is told of new references) to the new one. So before each line the
program drains the free lists its things could come from: run() keeps more of
that kind alive than any version has in its lists, and the churn neither makes
nor frees these kinds: it makes bytes and bytearrays, which have none, and makes
them without calling a type (arguments are a tuple) or computing with floats.
What is left is stated by free_list: the most things of that line which a list
may hide should the drain not have emptied it (Include/internal/pycore_freelist.h
and its forerunners); a test may allow that much and no more.
"""

import argparse
import array
import collections
import ctypes
import gc
import json
import re
import sys
import time
import tracemalloc

import targetlib

LINES = []  # (name, function) in the order they run
FREE_LISTS = {}  # name -> most things a free list of any version holds of it
PARTS = ["left-%03d", "middle", "right"]
WORDS = ["w%04d" % k for k in range(40)]
PAIR = ("a key of some length", "and its value")
NONES = [None] * 7
NINE = list(range(9))
CHUNK = b"0123456789" * 7
KEYS = ["key-%02d" % k for k in range(12)]
BufferType = ctypes.c_char * 100
BIG = 1 << 70
ZERO = b"\0"
BUFFER = bytearray(8)
EACH = [range(k) for k in range(65)]


class Slotted:
    __slots__ = ("a", "b", "c")


class Plain:
    def __init__(self):
        self.first = None  # up to 3.10 and where values are not inline, this line makes the dict
        self.second = None


def keeps(free_list=None, drain=None):
    """Marks a function that keeps a thing at one line. drain: makes one thing of each kind that its free lists hold."""
    def mark(function):
        LINES.append((function.__name__[5:], function, drain))
        FREE_LISTS[function.__name__[5:]] = free_list
        return function
    return mark


@keeps()
def keep_slotted(out, churn):
    for i in range(len(out)):
        out[i] = Slotted()  # KEEP slotted
        churn()


@keeps(free_list=80, drain=lambda: [{"first": 1}, {}])
def keep_instance(out, churn):
    for i in range(len(out)):
        out[i] = Plain()  # KEEP instance
        churn()


@keeps(free_list=80, drain=lambda: {"first": 1})
def keep_dict(out, churn):
    for i in range(len(out)):
        out[i] = {"first": None, "second": None}  # KEEP dict
        churn()


@keeps(free_list=80, drain=lambda: {"first": 1})
def keep_dict_grown(out, churn):
    for i in range(len(out)):
        item = {}
        for key in KEYS:
            item[key] = None  # KEEP dict_grown
        out[i] = item
        churn()


@keeps(drain=list)
def keep_list_grown(out, churn):
    for i in range(len(out)):
        item = []
        for _ in NONES:
            item.append(None)  # KEEP list_grown
        out[i] = item
        churn()


@keeps(free_list=80, drain=list)
def keep_list(out, churn):
    for i in range(len(out)):
        out[i] = NONES[:]  # KEEP list
        churn()


@keeps()
def keep_str_join(out, churn):
    for i in range(len(out)):
        out[i] = "/".join(PARTS)  # KEEP str_join
        churn()


@keeps()
def keep_str_percent(out, churn):
    for i in range(len(out)):
        out[i] = "%s = %s" % PAIR  # KEEP str_percent
        churn()


@keeps()
def keep_str_format(out, churn):
    for i in range(len(out)):
        out[i] = f"{PAIR[0]:>40}"  # KEEP str_format
        churn()


@keeps()
def keep_str_grown(out, churn):
    for i in range(len(out)):
        text = ""
        for word in WORDS:
            text += word  # KEEP str_grown
        out[i] = text
        churn()


@keeps()
def keep_bytes_small(out, churn):
    for i in range(len(out)):
        out[i] = CHUNK + CHUNK  # KEEP bytes_small
        churn()


@keeps()
def keep_bytes_large(out, churn):
    for i in range(len(out)):
        out[i] = bytes(777)  # KEEP bytes_large
        churn()


@keeps()
def keep_bytearray_grown(out, churn):
    for i in range(len(out)):
        buffer = bytearray()
        for _ in NINE:
            buffer += CHUNK  # KEEP bytearray_grown
        out[i] = buffer
        churn()


@keeps(free_list=2000, drain=lambda: tuple(NONES))
def keep_tuple(out, churn):
    for i in range(len(out)):
        out[i] = tuple(NONES)  # KEEP tuple
        churn()


@keeps()
def keep_tuple_long(out, churn):
    for i in range(len(out)):
        out[i] = tuple(WORDS)  # KEEP tuple_long
        churn()


@keeps()
def keep_set(out, churn):
    for i in range(len(out)):
        out[i] = {"a", "b", None}  # KEEP set
        churn()


@keeps()
def keep_set_large(out, churn):
    for i in range(len(out)):
        out[i] = set(NINE)  # KEEP set_large
        churn()


@keeps()
def keep_int(out, churn):
    for i in range(len(out)):
        out[i] = BIG + i  # KEEP int
        churn()


@keeps(free_list=100, drain=lambda: 3.5 * len(NINE))
def keep_float(out, churn):
    half = 0.5
    for i in range(len(out)):
        out[i] = half * 3  # KEEP float
        churn()


@keeps(free_list=2000, drain=lambda: (lambda x: (x, lambda: x)[1:])(None))
def keep_closure(out, churn):
    def make(value):
        return lambda: value  # KEEP closure

    for i in range(len(out)):
        out[i] = make(None)
        churn()


@keeps()
def keep_ctypes(out, churn):
    for i in range(len(out)):
        out[i] = BufferType()  # KEEP ctypes
        churn()


@keeps()
def keep_array(out, churn):
    for i in range(len(out)):
        out[i] = array.array("q", NINE)  # KEEP array
        churn()


@keeps()
def keep_deque(out, churn):
    for i in range(len(out)):
        out[i] = collections.deque(NONES)  # KEEP deque
        churn()


@keeps()
def keep_object(out, churn):
    for i in range(len(out)):
        out[i] = object()  # KEEP object
        churn()


class Churn:
    """Allocates and frees, so that the total of the program keeps to a rate; holds the last 61 things, at most.

    Sizes go through all size classes and over 512 bytes; every 16th thing is a bytearray grown and shrunk by realloc.
    """

    SIZES = [16 + (k * 37) % 700 for k in range(256)]
    HELD = 61
    STEP = 200  # calls between looks at the clock

    def __init__(self, each, rate):
        self.each, self.rate = each, int(rate)
        self.ring = [None] * self.HELD
        self.at = self.calls = 0
        self.started_ns = time.monotonic_ns()

    def allocations(self):
        """About how many the program has made: a kept thing makes 2, realloc counted."""
        return self.calls * (self.each + 2)

    def __call__(self):
        ring, at = self.ring, self.at
        for _ in EACH[self.each]:
            at = (at + 1) % 256
            ring[at % self.HELD] = ZERO * self.SIZES[at] if at % 16 else self.grown(at)
        self.at = at
        self.calls += 1
        if self.rate and self.calls % self.STEP == 0:
            self.pace()

    @staticmethod
    def grown(size):
        buffer = BUFFER.copy()
        buffer += ZERO * (size * 3)
        del buffer[size:]
        return buffer

    def pace(self):
        """Sleeps while the program is ahead of its rate, without making a float."""
        due_ns = self.started_ns + self.allocations() * 1000000000 // self.rate
        while time.monotonic_ns() < due_ns:
            time.sleep(0.002)

    def stop(self):
        self.ring = None


def line_numbers():
    """name -> line, from the KEEP comments of this very file."""
    found = {}
    with open(__file__, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            match = re.search(r"# KEEP (\w+)$", text)
            if match:
                found[match.group(1)] = number
    return found


def by_line(snapshot):
    """{line of this file: [blocks, bytes]}"""
    only_here = snapshot.filter_traces([tracemalloc.Filter(True, __file__)])
    return {str(s.traceback[0].lineno): [s.count, s.size] for s in only_here.statistics("lineno")}


def run(size, churn):
    """Fills all lines; returns what keeps the things alive."""
    kept = []
    for _, keep, drain in LINES:
        drained = [drain() for _ in range(2500)] if drain else []
        out = [None] * size
        keep(out, churn)
        kept += [drained, out]
    churn.stop()
    return kept


def write(options, lines, traced):
    truth = {name: {"line": lines[name], "kept": options.size, "free_list": FREE_LISTS[name]} for name, _, _ in LINES}
    python = list(sys.version_info[:3])
    result = {"size": options.size, "python": python, "file": __file__, "lines": truth, "tracemalloc": traced}
    targetlib.write_whole(options.out, json.dumps(result))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--size", type=int, default=10000)
    parser.add_argument("--rate", type=float, default=200000, help="allocations a second, about; 0: as fast as it goes")
    parser.add_argument("--churn", type=int, default=4, help="short-lived things for each kept one")
    parser.add_argument("--tracemalloc", action="store_true")
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    go = targetlib.prepare_go()
    lines = line_numbers()
    gc.disable()  # a collection empties free lists at a time of its own choosing
    if options.tracemalloc:
        tracemalloc.start(1)
    else:
        targetlib.say("ready")
        targetlib.wait_for_go(go)
    churn = Churn(options.churn, options.rate)
    kept = run(options.size, churn)
    traced = by_line(tracemalloc.take_snapshot()) if options.tracemalloc else None
    write(options, lines, traced)
    targetlib.stay("done %d" % churn.allocations())
    del kept  # never reached: it lives until the end


if __name__ == "__main__":
    main()
