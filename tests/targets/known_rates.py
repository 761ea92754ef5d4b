# SPDX-License-Identifier: MIT
"""Leaks at known rates at several lines, amid churn and a cache that is replaced all the time. For tests of sampled mode.

    known_rates.py [--scale F] [--churn N] [--threads N] [--children N] [--tracemalloc SECONDS]

Each "LEAK name" line keeps things of one size at an even rate, in places of a list made before "ready", so that nothing else
grows. Once a second it says what each has kept so far, by its own clock:

    kept {"time": 12.001, "lines": {"41": 120000, ...}}       (bytes requested; seconds since "ready")

--scale multiplies the rates, --churn is temporary things made a second, --threads share the sites, --children forks so many
processes a second that compute and end, --tracemalloc starts it so long after "ready" and stops it 2 s later.
"""

import argparse
import json
import os
import sys
import threading
import time
import tracemalloc
import warnings

import targetlib

BIG = 1 << 70
PLACES = 200000
SITES = {}  # name -> [function, a second]
TEXT = ("plain " * 10 + "\u00e9" * 8).encode("utf-8")
cache = {}


def site(rate):
    def mark(function):
        SITES[function.__name__] = [function, rate]
        return function
    return mark


@site(600)
def leak_int(n, out):
    value = BIG + n  # LEAK int
    out.append(value)
    return sys.getsizeof(value)


@site(300)
def leak_calloc(n, out):
    value = bytes(200)  # LEAK calloc
    out.append(value)
    return sys.getsizeof(value)


@site(300)
def leak_shrunk(n, out):
    value = TEXT.decode("utf-8")  # LEAK shrunk: more was asked for, realloc gave some back
    out.append(value)
    return sys.getsizeof(value)


@site(150)
def leak_grown(n, out):
    value = []
    empty = sys.getsizeof(value)
    for k in range(30):
        value.append(k)  # LEAK grown: the array is reallocated four times
    out.append(value)
    return sys.getsizeof(value) - empty


@site(100)
def leak_large(n, out):
    value = bytes(2000 + n % 100)  # LEAK large
    out.append(value)
    return sys.getsizeof(value)


@site(10)
def leak_huge(n, out):
    value = bytearray(100000)  # LEAK huge: the buffer
    out.append(value)
    return 100001


def replace(n):
    """A cache with turnover: as much goes as comes."""
    cache[n % 2000] = "entry %d of the cache" % n


def churn(count):
    total = 0
    for k in range(count):
        total += len((k, bytes(k % 300), {"k": k}))
    return total


class Keeper:
    """Runs some sites evenly; catches up after a pause, in bounded bursts."""

    def __init__(self, names, scale):
        self.sites = [(name, *SITES[name]) for name in names]
        self.scale = scale
        self.done = dict.fromkeys(names, 0)
        self.bytes = dict.fromkeys(names, 0)
        self.started = time.monotonic()
        self.out = Places(PLACES)

    def step(self):
        passed = time.monotonic() - self.started
        for name, function, rate in self.sites:
            due = int(passed * rate * self.scale)
            for n in range(self.done[name], min(due, self.done[name] + 200)):
                self.bytes[name] += function(n, self.out)
                self.done[name] = n + 1


class Places:
    """Appends into a list that never grows."""

    def __init__(self, count):
        self.list = [None] * count
        self.used = 0

    def append(self, value):
        self.list[self.used] = value
        self.used += 1


def lines():
    return {name: function.__code__.co_firstlineno + offset_of_leak(function) for name, (function, _) in SITES.items()}


def offset_of_leak(function):
    source = open(__file__, encoding="utf-8").read().splitlines()
    first = function.__code__.co_firstlineno
    return next(k for k in range(20) if "# LEAK" in source[first + k - 1])


def work(keeper, options, number):
    n = 0
    began = time.monotonic()
    while True:
        keeper.step()
        passed = time.monotonic() - began
        if number == 0:
            for n in range(n, min(int(passed * 3000), n + 100)):
                replace(n)
        churn(options.churn // 200)
        time.sleep(0.005)


def fork_one():
    child = os.fork()
    if child == 0:
        os._exit(0 if targetlib.work() == targetlib.work() else 1)
    return os.waitpid(child, 0)[1]


def extras(options, second):
    for _ in range(options.children):
        if fork_one():
            targetlib.say("WRONG in a child")
            os._exit(3)
    if options.tracemalloc and second == int(options.tracemalloc):
        tracemalloc.start()
    if options.tracemalloc and second == int(options.tracemalloc) + 2:
        tracemalloc.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--churn", type=int, default=20000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--children", type=int, default=0)
    parser.add_argument("--tracemalloc", type=float, default=0)
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    names = list(SITES)
    at = lines()
    for n in range(4000):
        replace(n)
    keepers = [Keeper(names[k::options.threads], options.scale) for k in range(options.threads)]
    for number, keeper in enumerate(keepers):
        threading.Thread(target=work, args=(keeper, options, number), daemon=True).start()
    began = time.monotonic()
    targetlib.say("ready")
    second = 0
    while True:
        time.sleep(1)
        second += 1
        kept = {str(at[name]): count for keeper in keepers for name, count in keeper.bytes.items()}
        targetlib.say("kept " + json.dumps({"time": time.monotonic() - began, "lines": kept}))
        extras(options, second)


if __name__ == "__main__":
    main()
