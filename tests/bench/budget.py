#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether the slowdown stays within --budget when the target's allocation rate changes by a factor of 1,000.

    budget.py [--quick] [--python COMMAND] [--budgets B,...] [--threads N,...] [--mode MODE] [--pairs N]

A target (services/phases.py) goes through bursts of millions of allocations a second, quiet phases of a few thousand and idle
ones, a cycle of 12 s, bare and under leaksnoop in turn; leaksnoop attaches while it is idle and knows nothing of the burst
to come. The slowdown of a cycle is the time its work took by the time the same work takes in the bare cycles before and
after: by the target's own processor time, which the probes add to and which is judged, and by the wall clock, which has what
other programs of the machine took as well. "first second" is that of each burst and quiet phase: what the controller needs
to notice. Idle phases are no part of the overall figure. "bare" is a bare cycle between two others: the machine's noise.
"""

import argparse
import collections
import os
import signal
import statistics
import sys
import time

import rig
from rig import Child, Failed, Python

CYCLE_TIMEOUT = 60
KINDS = ("burst", "quiet", "idle")
BIN = 0.1  # seconds, as in phases.py
FIRST = round(1 / BIN)


def rates(cycle, clock):
    """{what: work a second of this clock ("cpu" or "wall")}, where what is (kind, "all" | "first second")"""
    sums = collections.defaultdict(lambda: [0, 0])
    for phase in cycle["phases"]:
        seconds = phase["cpu"] if clock == "cpu" else [BIN] * len(phase["work"])
        for part, bins in (("all", len(seconds)), ("first second", FIRST)):
            total = sums[phase["kind"], part]
            total[0] += sum(phase["work"][:bins])
            total[1] += sum(seconds[:bins])
    return {what: work / seconds for what, (work, seconds) in sums.items()}


def overall(slowdown, cycle):
    """Of the busy phases: time taken / time the same work takes bare."""
    seconds = {kind: sum(len(p["work"]) for p in cycle["phases"] if p["kind"] == kind) for kind in ("burst", "quiet")}
    return sum(seconds.values()) / sum(taken / slowdown[kind, "all"] for kind, taken in seconds.items())


class Stress:
    """One target; cycles of it bare and traced."""

    def __init__(self, python, threads, words):
        self.words = words
        path = os.path.join(python.place(os.path.join(rig.HERE, "services")), "phases.py")
        self.target = Child([*python.words, path, str(threads)], rig.processors()[0])
        self.pid = self.target.answer(30)["pid"]
        self.cycles, self.armed, self.tracer_share = [], [], []

    def cycle(self):
        self.target.tell("cycle")
        return self.target.answer(CYCLE_TIMEOUT)

    def bare(self):
        self.cycles.append(("bare", self.cycle()))

    def traced(self):
        with rig.attached(self.pid, self.words) as tracer:
            before, began = tracer.seconds(), time.monotonic()
            self.cycles.append(("leaksnoop", self.cycle()))
            self.tracer_share.append((tracer.seconds() - before) / (time.monotonic() - began))
            window = tracer.stop()["window"]
        if window.get("armed_seconds") is not None:
            self.armed.append(window["armed_seconds"] / window["seconds"])

    def slowdowns(self, clock):
        """{name: {what: [slowdown of each cycle between two bare ones]}}"""
        found = collections.defaultdict(lambda: collections.defaultdict(list))
        for at, (name, cycle) in enumerate(self.cycles):
            around = [c for n, c in self.cycles[:at] if n == "bare"][-1:] + [c for n, c in self.cycles[at + 1:] if n == "bare"][:1]
            if len(around) < 2:
                continue
            bare = [rates(c, clock) for c in around]
            slowdown = {what: statistics.mean(b[what] for b in bare) / rate for what, rate in rates(cycle, clock).items()}
            slowdown["overall", "all"] = overall(slowdown, cycle)
            for what, value in slowdown.items():
                found[name][what].append(value)
        return found


def spread(values):
    if not values:
        return "-"
    return "%+6.2f %% (%+.2f to %+.2f)" % tuple((v - 1) * 100 for v in (statistics.median(values), min(values), max(values)))


def show(stress, threads, budget):
    """
    1 thread, budget 2 %: burst 5.11 million allocations/s, quiet 4,350/s; armed 0.210 % of the time; leaksnoop's processor time 0.31 %
                            leaksnoop, own time            bare, own time                 leaksnoop, wall clock
      burst                 +1.52 % (+1.10 to +1.98)       +0.03 % (-0.20 to +0.31)       +1.61 % (+0.98 to +2.22)
      overall               +1.41 % (+1.02 to +1.60)       +0.01 % (-0.31 to +0.26)       +1.45 % (+0.90 to +2.01)
      1.41 % against a budget of 2 %: within
    """
    cpu, wall = stress.slowdowns("cpu"), stress.slowdowns("wall")
    per_second = {kind: statistics.median(rates(c, "cpu")[kind, "all"] for n, c in stress.cycles if n == "bare") for kind in KINDS}
    print("\n%d thread%s, %s: burst %.2f million allocations/s, quiet %s/s; armed %s of the time; leaksnoop's processor time %.2f %%" %
          (threads, "s" * (threads > 1), "budget %g %%" % budget if budget else "no budget", per_second["burst"] / 1e3,
           "{:,.0f}".format(per_second["quiet"]), "%.3f %%" % (statistics.median(stress.armed) * 100) if stress.armed else "unknown part",
           statistics.median(stress.tracer_share) * 100))
    print("  %-22s %-30s %-30s %s" % ("", "leaksnoop, own time", "bare, own time", "leaksnoop, wall clock"))
    for kind, part in [(kind, part) for kind in KINDS for part in ("all", "first second")] + [("overall", "all")]:
        columns = [cpu["leaksnoop"][kind, part], cpu["bare"][kind, part], wall["leaksnoop"][kind, part]]
        label = kind + (", first second" if part != "all" else "")
        print(("  %-22s" % label + "".join(" %-30s" % spread(values) for values in columns)).rstrip())
    within = not budget or judge([(slowdown - 1) * 100 for slowdown in cpu["leaksnoop"]["overall", "all"]], budget)
    sys.stdout.flush()
    return within


def judge(percents, budget):
    """Exceeded only if every cycle says so: a machine's noise is of the size of a small budget."""
    median = statistics.median(percents)
    exceeded = min(percents) > budget
    verdict = "within" if median <= budget else "EXCEEDED" if exceeded else "not decided; the cycles differ by more (--pairs)"
    print("  %.2f %% against a budget of %g %%: %s" % (median, budget, verdict))
    return not exceeded


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two pairs of cycles instead of four")
    parser.add_argument("--python", default="/usr/bin/python3", help="the target's interpreter (default %(default)s)")
    parser.add_argument("--budgets", default="0.5,2", help="percent, joined by commas, or 'none': leaksnoop is given none (default %(default)s)")
    parser.add_argument("--threads", default="1,4", help="variants of the target (default %(default)s)")
    parser.add_argument("--mode", help="leaksnoop's --mode; default: its own default")
    parser.add_argument("--pairs", type=int, help="cycles with leaksnoop, each between two bare ones")
    options = parser.parse_args()
    options.pairs = options.pairs or (2 if options.quick else 4)
    options.budgets = [None if b == "none" else float(b) for b in options.budgets.split(",")]
    options.threads = [int(n) for n in options.threads.split(",")]
    return options


def measure(python, threads, budget, options):
    words = (["--mode", options.mode] if options.mode else []) + (["--budget", "%g" % budget] if budget else [])
    stress = Stress(python, threads, words)
    try:
        stress.bare()
        for _ in range(options.pairs):
            stress.traced()
            stress.bare()
        return show(stress, threads, budget)
    finally:
        stress.target.close()


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    python = Python(options.python)
    print("budget under Python %s (%s)" % (python.version, options.python), flush=True)
    within = True
    try:
        for budget in options.budgets:
            for threads in options.threads:
                within = measure(python, threads, budget, options) and within
    except Failed as error:
        print("FAILED: %s" % error, flush=True)
        return 1
    finally:
        python.close()
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
