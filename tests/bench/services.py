#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What leaksnoop costs services with their own request loops, beside tracemalloc and memray, interleaved in one run.

    services.py [--quick] [--python COMMAND] [--mode MODE] [--budget B] [--services NAME,...] [--peers NAME,...]

One process of a service stays up; leaksnoop attaches to it and detaches between slices of time, tracemalloc is switched on
and off in it, memray, which has to start the program, gets a process of its own. Each slice with a tracer stands
between two bare ones, and its slowdown is the mean of their rates by its own. The row "bare" shows what the same sum makes of a
bare slice between two others: differences smaller than its spread are the machine's. The column "by own time" compares
requests per second of the service's own processor time: it leaves out what other programs of the machine took, and what
leaksnoop's own process did; the wall clock's column has both, and is the one that counts.

Services run on one processor, their clients on another; leaksnoop is not pinned and competes with both. COMMAND: words
joined by commas, as scripts/pythons.sh prints them.
"""

import argparse
import collections
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import rig
from rig import Child, Failed, Python, Unavailable

FOLDER = os.path.join(rig.HERE, "services")
PACKAGES = ["memray", "flask", "gunicorn", "numpy"]
AIM_MEDIAN, AIM_WORST = 1.02, 1.05
SATURATED = 0.9  # a service that is less busy than this has spare time, which hides what slows it down
BARE, PEERS = "bare", ["tracemalloc(1)", "tracemalloc(25)", "memray", "memray, Python allocators"]

OWN_TIME = "by own time"  # of leaksnoop, in the summary

Row = collections.namedtuple("Row", "name file memray")
SERVICES = [
    Row("json+re churn", "json_churn.py", []),
    Row("asyncio server", "asyncio_server.py", []),
    Row("threaded server", "threaded_server.py", []),
    Row("Flask, gunicorn, wrk", "flask_app.py", ["--follow-fork"]),
    Row("numeric work", "numeric.py", []),
    Row("slow leak", "slow_leak.py", []),
]


class Commanded:
    """Requests made by a process that obeys meter.py's commands: the service itself or its load generator."""

    def __init__(self, child):
        self.child = child

    def run(self):
        self.child.tell("run")

    def pause(self):
        self.child.tell("pause")

    def measure(self, seconds):
        self.child.tell("measure", seconds)
        return self.child.answer(seconds + 30)


class Wrk:
    """Requests made by wrk, a process for each measurement, and one between them that keeps the service busy."""

    def __init__(self, port, paths, cpu):
        self.command = lambda seconds: ["wrk", "-t1", "-c8", "-d%d" % seconds, "-s", os.path.join(FOLDER, "wrk.lua"),
                                        "http://127.0.0.1:%d" % port, "--", *paths]
        self.pin = lambda: os.sched_setaffinity(0, {cpu})
        self.between = None

    def run(self):
        self.pause()
        self.between = subprocess.Popen(self.command(600), stdout=subprocess.DEVNULL, preexec_fn=self.pin)

    def pause(self):
        if self.between:
            self.between.kill()
            self.between.wait()
            self.between = None

    def measure(self, seconds):
        """wrk knows whole seconds only."""
        self.pause()
        seconds = math.ceil(seconds)
        done = subprocess.run(self.command(seconds), stdout=subprocess.PIPE, text=True, preexec_fn=self.pin, timeout=seconds + 30)
        self.run()
        if done.returncode:
            raise Failed("wrk ended with status %d" % done.returncode)
        result = json.loads(done.stdout.splitlines()[-1])
        if result["errors"]:
            raise Failed("%d requests failed" % result["errors"])
        return result


class Service:
    """A service that is up, and what makes its requests."""

    def __init__(self, row, python, prefix=()):
        self.cpu, client_cpu = rig.processors()
        path = os.path.join(python.place(FOLDER), row.file)
        self.client = self.load = None
        self.server = Child([*python.words, *prefix, path], self.cpu)
        try:
            hello = self.server.answer(30)
            self.pid, self.note = hello["pid"], hello.get("note")
            self.load = self._load(hello, os.path.join(FOLDER, row.file), client_cpu)
        except (Failed, Unavailable):
            self.close()
            raise

    def _load(self, hello, path, cpu):
        if hello["load"] == "self":
            return Commanded(self.server)
        if hello["load"] == "client":
            self.client = Child([sys.executable, path, "--client", str(hello["port"])], cpu)
            return Commanded(self.client)
        if not shutil.which("wrk"):
            raise Unavailable("wrk is not installed")
        return Wrk(hello["port"], hello["paths"], cpu)

    def slice(self, seconds, tracer=None):
        """What it did in so many seconds, in a Slice's fields."""
        before, tracer_before = rig.own_seconds(self.pid), tracer.seconds() if tracer else 0
        begin = time.monotonic()
        result = self.load.measure(seconds)
        elapsed = time.monotonic() - begin
        if not result["requests"]:
            raise Failed("no request was answered in %g s" % seconds)
        return {"rate": result["requests"] / result["seconds"], "p50": result["p50"], "p99": result["p99"],
                "busy": (rig.own_seconds(self.pid) - before) / elapsed,
                "tracer": (tracer.seconds() - tracer_before) / elapsed if tracer else None}

    def tracemalloc(self, frames):
        self.server.tell("tracemalloc", frames)
        self.server.answer(60)

    def close(self):
        if self.load and self.load.__class__ is Wrk:
            self.load.pause()
        if self.client:
            self.client.close()
        self.server.close()


class Run:
    """The slices of one service, in the order of time."""

    def __init__(self, row, python, options):
        self.row, self.python, self.options = row, python, options
        self.slices = []
        self.armed = []
        self.service = Service(row, python)

    def close(self):
        self.service.close()

    def add(self, name, values):
        self.slices.append({"name": name, **values})

    def bare(self, seconds):
        time.sleep(0.2)
        self.add(BARE, self.service.slice(seconds))

    def leaksnoop(self):
        with rig.attached(self.service.pid, self.options.words) as tracer:
            time.sleep(self.options.settle)
            self.add(self.options.label, self.service.slice(self.options.slice, tracer))
            window = tracer.stop()["window"]
        if window.get("armed_seconds") is not None and window["seconds"]:
            self.armed.append(window["armed_seconds"] / window["seconds"])

    def tracemalloc(self, frames):
        for _ in range(self.options.peer_rounds):
            self.service.tracemalloc(frames)
            time.sleep(0.2)
            self.add("tracemalloc(%d)" % frames, self.service.slice(self.options.peer_slice))
            self.service.tracemalloc(0)
            self.bare(self.options.peer_slice)

    def memray(self, name, words):
        """Its file grows by tens of megabytes a second: it lives no longer than its slices."""
        with tempfile.TemporaryDirectory(prefix="leaksnoop-bench-") as folder:
            prefix = ["-m", "memray", "run", "-q", *words, *self.row.memray, "-o", os.path.join(folder, "memray.bin")]
            under = Service(self.row, self.python, prefix)
            try:
                for _ in range(self.options.peer_rounds):
                    self.service.load.pause()
                    under.load.run()
                    time.sleep(0.4)
                    values = under.slice(self.options.peer_slice)
                    under.load.pause()
                    self.add(name, values)
                    self.service.load.run()
                    self.bare(self.options.peer_slice)
            finally:
                under.close()

    def rounds(self, missing):
        """Everything; returns {peer: why it did not run}."""
        self.service.load.run()
        time.sleep(0.5)
        self.bare(self.options.slice)
        for _ in range(self.options.rounds):
            self.leaksnoop()
            self.bare(self.options.slice)
        refused = {}
        for peer in self.options.peers:
            if peer.startswith("tracemalloc"):
                self.tracemalloc(int(peer[len("tracemalloc("):-1]))
            elif "memray" in missing:
                refused[peer] = missing["memray"]
            else:
                self.try_memray(peer, refused)
        return refused

    def try_memray(self, peer, refused):
        try:
            self.memray(peer, ["--trace-python-allocators"] if "allocators" in peer else [])
        except Failed as error:
            if self.service.server.process.poll() is not None:
                raise
            refused[peer] = str(error)
            self.service.load.run()

    def slowdowns(self, rate=lambda s: s["rate"]):
        """{name: [slowdown of each slice that has a bare one before and after it]}"""
        found = collections.defaultdict(list)
        for at, here in enumerate(self.slices):
            before = [rate(s) for s in self.slices[:at] if s["name"] == BARE][-1:]
            after = [rate(s) for s in self.slices[at + 1:] if s["name"] == BARE][:1]
            if before and after:
                found[here["name"]].append(statistics.mean(before + after) / rate(here))
        return found


def by_own_time(values):
    """Requests a second of the service's own processor time."""
    return values["rate"] / values["busy"]


def median_of(slices, key):
    values = [s[key] for s in slices if s[key] is not None]
    return statistics.median(values) if values else None


def show(run, refused):
    """
    slow leak (slow_leak.py)
                               requests/s  times slower             by own time   p50 ms   p99 ms  processor  leaksnoop's
      bare                        1,523.1   1.001 (0.994 to 1.006)        1.000    0.655    0.731     99.2 %
      leaksnoop                   1,503.7   1.012 (1.007 to 1.019)        1.011    0.659    1.102     99.1 %       0.61 %
    """
    note = ", " + run.service.note if run.service.note else ""
    print("\n%s (%s%s)" % (run.row.name, run.row.file, note))
    print("  %-26s %10s  %-24s %11s %8s %8s %10s  %s" % ("", "requests/s", "times slower", "by own time", "p50 ms", "p99 ms", "processor",
                                                       "leaksnoop's"))
    slowdowns, by_own = run.slowdowns(), run.slowdowns(by_own_time)
    for name in dict.fromkeys(s["name"] for s in run.slices):
        show_row(name, [s for s in run.slices if s["name"] == name], slowdowns[name], by_own[name])
    for peer, why in refused.items():
        print("  %-26s not run: %s" % (peer, why))
    if run.armed:
        print("  armed %.2f %% of the time" % (statistics.median(run.armed) * 100))
    if median_of([s for s in run.slices if s["name"] == BARE], "busy") < SATURATED:
        print("  the service is not busy all the time, or not alone on its processor: believe its own time")
    sys.stdout.flush()


def show_row(name, slices, ratios, by_own):
    tracer = median_of(slices, "tracer")
    print("  %-26s %10s  %-24s %11.3f %8.3f %8.3f %8.1f %%%s" % (
        name, "{:,.1f}".format(median_of(slices, "rate")),
        "%.3f (%.3f to %.3f)" % (statistics.median(ratios), min(ratios), max(ratios)), statistics.median(by_own),
        median_of(slices, "p50") * 1e3, median_of(slices, "p99") * 1e3, median_of(slices, "busy") * 100,
        "" if tracer is None else " %10.2f %%" % (tracer * 100)))


def summarise(found, names, options):
    """One row a service, the median and the worst of each column; whether the default met its aims."""
    table_row = lambda label, cells: print("  %-22s" % label + "".join("%18s" % cell for cell in cells))
    print("\nTimes slower than bare")
    table_row("", [name.replace(", Python allocators", "+Python").replace("leaksnoop --", "") for name in names])
    for service, medians in found.items():
        table_row(service, ["%.3f" % medians[name] if name in medians else "-" for name in names])
    for label, fold in (("median", statistics.median), ("worst", max)):
        columns = [[medians[name] for medians in found.values() if name in medians] for name in names]
        table_row(label, ["%.3f" % fold(column) if column else "-" for column in columns])
    if options.words:
        return
    for label, name in (("wall clock", options.label), ("own time", OWN_TIME)):
        mine = [medians[name] for medians in found.values()]
        met = statistics.median(mine) <= AIM_MEDIAN and max(mine) <= AIM_WORST
        print("aims of the default mode, %s, %d of %d services: median <= %.2f, worst <= %.2f: %s" %
              (label, len(mine), len(SERVICES), AIM_MEDIAN, AIM_WORST, "met" if met else "missed"))


def measure(row, python, missing, options):
    """{name: median slowdown}; raises Unavailable if the service cannot run here."""
    try:
        run = Run(row, python, options)
    except Failed as error:
        raise Unavailable(str(error)) from None
    try:
        refused = run.rounds(missing)
        show(run, refused)
        medians = {name: statistics.median(ratios) for name, ratios in run.slowdowns().items()}
        medians[OWN_TIME] = statistics.median(run.slowdowns(by_own_time)[options.label])
        return medians
    finally:
        run.close()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter slices: about 2 minutes")
    parser.add_argument("--python", default="/usr/bin/python3", help="the interpreter of the services (default %(default)s)")
    parser.add_argument("--mode", help="leaksnoop's --mode; default: its own default")
    parser.add_argument("--budget", help="leaksnoop's --budget; default: its own default")
    parser.add_argument("--services", help="names or files, parts of them, joined by commas; default: all")
    parser.add_argument("--peers", default=None, help="'none', or parts of their names joined by commas; default: all")
    parser.add_argument("--rounds", type=int, help="slices with leaksnoop (default 7; quick 3)")
    parser.add_argument("--slice", type=float, help="seconds of a slice (default 2; quick 1)")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds between the attach and the slice (default %(default)s)")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.slice = options.slice or (1 if options.quick else 2)
    options.peer_rounds, options.peer_slice = (1, 1) if options.quick else (2, 1)
    options.words = [word for name in ("mode", "budget") if getattr(options, name) for word in ("--" + name, getattr(options, name))]
    options.label = " ".join(["leaksnoop", *options.words])
    wanted = lambda text, words: words is None or any(word.lower() in text.lower() for word in words.split(","))
    options.rows = [row for row in SERVICES if wanted(row.name + " " + row.file, options.services)]
    options.peers = [peer for peer in PEERS if wanted(peer, options.peers)]
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that children are closed
    python = Python(options.python)
    missing = python.equip(PACKAGES)
    print("services under Python %s (%s); %s; slices of %g s, %d rounds" %
          (python.version, options.python, options.label, options.slice, options.rounds), flush=True)
    found, failed = {}, False
    try:
        for row in options.rows:
            try:
                found[row.name] = measure(row, python, missing, options)
            except Unavailable as why:
                print("\n%s (%s)\n  not run: %s" % (row.name, row.file, why), flush=True)
            except Failed as error:
                failed = True
                print("\n%s (%s)\n  FAILED: %s" % (row.name, row.file, error), flush=True)
    finally:
        python.close()
    if found:
        summarise(found, [options.label, OWN_TIME, *options.peers], options)
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
