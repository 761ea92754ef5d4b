# SPDX-License-Identifier: MIT
"""leaksnoop watch on a host of 100 Python processes of different versions: 5 of them leak at different rates, and 20 short-lived ones start a second.

    watch.py [--minutes M] [--processes N] [--starts N]

Prints, from one run: which leaks were named with their line and after how long, who was accused without a reason, leaksnoop's own processor
time and memory (with its watchdog), and how its memory and its descriptors went over the run. Ends with status 1 when a leak was missed, somebody
was accused, or it grew.
"""

import argparse
import json
import os
import pathlib
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEAKSNOOP = os.environ.get("LEAKSNOOP", str(ROOT / "build/leaksnoop"))
TICKS = os.sysconf("SC_CLK_TCK")

# A service that mostly waits; what it keeps a second is its first argument, in bytes (a str of ASCII has 49 besides its text).
SERVICE = '''import json, sys, time
rate = float(sys.argv[1])
kept, cache, step = [], {}, 0.05
def keep(number):
    kept.append(("session-%d" % number).ljust(int(rate * step / 4) - 49))  # LEAK
def handle(number):
    request = json.loads(json.dumps({"id": number, "items": [{"n": k, "name": "item %d" % k} for k in range(5)]}))
    cache[number % 500] = "%s" % request
number = 0
while True:
    for _ in range(4):
        number += 1
        handle(number)
        if rate: keep(number)
    time.sleep(step)
'''
LEAK_LINE = 1 + SERVICE[:SERVICE.index("# LEAK")].count("\n")
RATES = [10e3, 40e3, 150e3, 500e3, 2e6]


def pythons():
    """Commands of the interpreters that run without a chroot."""
    listed = subprocess.run([ROOT / "scripts/pythons.sh", "supported"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return [pair.split("=", 1)[1].split(",") for pair in listed if "chroot" not in pair]


def children(pid):
    return [int(p) for p in pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()]


def usage(pid):
    """(seconds of processor, bytes of memory, descriptors) of a process and its children."""
    seconds, resident, descriptors = 0.0, 0, 0
    for p in [pid, *children(pid)]:
        fields = pathlib.Path("/proc/%d/stat" % p).read_text().rsplit(")", 1)[1].split()
        seconds += sum(map(int, fields[11:15] if p == pid else fields[11:13])) / TICKS
        # Its watchdog is a fork, and shares nearly all it has: PSS counts that once.
        resident += int(re.search(r"^Pss:\s+(\d+) kB", pathlib.Path("/proc/%d/smaps_rollup" % p).read_text(), re.M).group(1)) << 10
        descriptors += len(os.listdir("/proc/%d/fd" % p))
    return seconds, resident, descriptors


class Starter:
    """Short-lived interpreters, so many a second."""

    def __init__(self, commands, rate):
        self.commands, self.rate = commands, rate
        self.begun, self.started, self.live = time.monotonic(), 0, []

    def step(self):
        due = int((time.monotonic() - self.begun) * self.rate)
        while self.started < due:
            self.live.append(subprocess.Popen([*random.choice(self.commands), "-S", "-c", "pass"], stderr=subprocess.DEVNULL))
            self.started += 1
        self.live = [p for p in self.live if p.poll() is None]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--starts", type=float, default=20)
    options = parser.parse_args()
    commands = pythons()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="leaksnoop-bench-"))
    program = folder / "service.py"
    program.write_text(SERVICE)
    services = []
    watch = None
    try:
        for i in range(options.processes):
            rate = RATES[i // 7] if i % 7 == 3 and i // 7 < len(RATES) else 0
            services.append((subprocess.Popen([*commands[i % len(commands)], str(program), str(rate)]), rate))
        time.sleep(3)
        watch = subprocess.Popen([LEAKSNOOP, "watch", "--format", "json", "--history", str(folder / "history.db"), "--interval", "10"],
                                 stdout=subprocess.PIPE, text=True)
        ok = follow(watch, {p.pid: rate for p, rate in services}, Starter(commands, options.starts), options.minutes * 60)
        watch.send_signal(signal.SIGTERM)
        ok &= watch.wait(30) == 0
        print("watch: history of %.0f KB" % (sum(f.stat().st_size for f in folder.glob("history.db*")) / 1e3))
        return 0 if ok else 1
    finally:
        for process in [p for p, _ in services] + ([watch] if watch else []):
            process.kill()
            process.wait()
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def take(line, rates, named, accused, now):
    event = json.loads(line)
    pid, report = event["target"]["pid"], event["report"]
    if event["verdict"] != "leak" or not report or not report["findings"]:
        return
    if not rates.get(pid):
        accused.add((pid, tuple(event["target"]["cmdline"][-2:])))
        return
    frame = (report["findings"][0]["traceback"] or [{}])[0]
    if frame.get("line") == LEAK_LINE and frame.get("file", "").endswith("service.py") and pid not in named:
        named[pid] = now, report["findings"][0]["bytes_per_second"]["estimate"]


def follow(watch, rates, starter, seconds):
    begun = time.monotonic()
    named, accused, samples, rest = {}, set(), [], ""
    next_sample = begun + 5
    while time.monotonic() < begun + seconds:
        starter.step()
        if select.select([watch.stdout], [], [], 0.02)[0]:
            data = os.read(watch.stdout.fileno(), 1 << 20).decode()
            assert data, "watch ended"
            *lines, rest = (rest + data).split("\n")
            for line in lines:
                take(line, rates, named, accused, time.monotonic() - begun)
        if time.monotonic() >= next_sample:
            samples.append((time.monotonic() - begun, *usage(watch.pid)))
            next_sample += 10
    report(rates, named, accused, samples, starter)
    third = len(samples) // 3
    grew = min(s[2] for s in samples[-third:]) > 1.15 * max(s[2] for s in samples[third:2 * third])
    return len(named) == sum(1 for r in rates.values() if r) and not accused and not grew


def report(rates, named, accused, samples, starter):
    for pid, rate in sorted(rates.items(), key=lambda item: item[1]):
        if rate and pid in named:
            print("watch: a leak of %7.0f B/s was named after %4.0f s, at %7.0f B/s" % (rate, *named[pid]))
        elif rate:
            print("watch: a leak of %7.0f B/s was NOT named" % rate)
    print("watch: accused without a reason: %s" % (sorted(accused) or "nobody"))
    first, last = samples[0], samples[-1]
    print("watch: %d processes, %d starts; %.2f %% of a core of its own (%.2f %% after the first minute)" % (
        len(rates), starter.started, 100 * last[1] / last[0],
        100 * (last[1] - samples[min(6, len(samples) - 1)][1]) / max(1, last[0] - samples[min(6, len(samples) - 1)][0])))
    print("watch: memory %s MB, at most %.1f; descriptors %d to %d" % (
        " ".join("%.1f" % (s[2] / 1e6) for s in samples[::max(1, len(samples) // 10)]), max(s[2] for s in samples) / 1e6, first[3], last[3]))


if __name__ == "__main__":
    sys.exit(main())
