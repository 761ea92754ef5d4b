# SPDX-License-Identifier: MIT
"""Runs the services of tests/targets/services under the tracer and judges what it says of them, one result for each.

A result is a dict, kept as a line of JSON; scripts/leaks-table.py makes docs/leaks.md of them:

    {"interpreter", "program", "kind", "family": "leak|steady|other", "right": [verdicts], "mode", "seconds",
     "verdict", "verdict_right", and of a leak: "place": "file:line" of the first finding, "found", "estimate", "low", "high",
     "truth_low", "truth_high", "inside"}

How the truth is known: tests/targets/services/service.py. It is a band, not a number, since "bytes" can mean what was asked for
or what pymalloc gives for that, and since the table of a growing container grows in leaps: from bytes asked for, without the
container's table, to bytes given, with that table twice (it doubles or not), and 2 % on
either side. The tracer's interval must overlap the band.
"""

import ast
import concurrent.futures
import datetime
import json
import os
import subprocess
import time

import harness

SERVICES = harness.TARGETS / "services"
WARM_UP = 2
CALIBRATION_OBJECTS = 2000
TRUTH_TOLERANCE = 0.02  # the clocks, the notes, and what a run of 2,000 objects has differently from one of 20,000
NOTES_EVERY = 0.7  # and a bit more than the services take to the next one
LIBRARY_SHARE = 0.1  # a library's line is a leaking line if it holds as much of the leaked bytes

# More options for attach, such as "--mode exact", to look at the programs themselves.
OPTIONS = os.environ.get("LEAKSNOOP_LEAKS_OPTIONS", "").split()


class Program:
    """A service: what its source says of it."""

    def __init__(self, path):
        self.name = path.stem
        self.file = path.name
        self.family = self.name.split("_")[0]
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        said = {node.targets[0].id: node.value for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
        self.kind = ast.get_docstring(tree).splitlines()[0]
        self.right = ["leak"] if self.family == "leak" else list(ast.literal_eval(said["RIGHT"]))
        self.since = ast.literal_eval(said["SINCE"]) if "SINCE" in said else (3, 8)
        self.marks = {(self.file, number) for number, line in enumerate(text.splitlines(), 1) if "# LEAK" in line}

    def runs_on(self, interpreter):
        return interpreter.version >= self.since

    def __repr__(self):
        return self.name


def programs():
    return [Program(path) for path in sorted(SERVICES.glob("*_*.py"))]


def calibrate(interpreter, program):
    """(base name of the file, line) -> what one leaked object costs there; in a process of its own, under tracemalloc."""
    inside, _ = harness.chroots.place(interpreter.root)
    directory = str(harness.TARGETS) if interpreter.root == "/" else inside
    command = [*interpreter.command, os.path.join(directory, "services", program.file), "--truth", str(CALIBRATION_OBJECTS)]
    done = subprocess.run(command, env=harness.clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, "%s --truth: %s" % (program, done.stderr.decode("utf-8", "replace"))
    return {(row["file"], row["line"]): row for row in json.loads(done.stdout)["lines"]}


class Counted:
    """The leaked objects over time, as the program wrote them down."""

    def __init__(self, path):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        self.points = [(row["t"], row["leaked_objects"]) for row in rows]

    def at(self, moment):
        """How many there were then, between two notes."""
        after = next((index for index, point in enumerate(self.points) if point[0] >= moment), None)
        assert after, "the program did not count at that time"
        (t0, n0), (t1, n1) = self.points[after - 1], self.points[after]
        return n0 + (n1 - n0) * (moment - t0) / (t1 - t0)

    def per_second(self, begin, end):
        return (self.at(end) - self.at(begin)) / (end - begin)


def window_of(report):
    """(begin, end) of a report's window on the clock of time.monotonic()."""
    begin = datetime.datetime.fromisoformat(report["window"]["start"].replace("Z", "+00:00")).timestamp()
    begin -= time.time() - time.monotonic()
    return begin, begin + report["window"]["seconds"]


def python_places(finding):
    return [(os.path.basename(frame["file"] or ""), frame["line"]) for frame in finding["traceback"] if frame["language"] == "python"]


def is_found(places, program, costs):
    """The leaking line or its direct caller. A line of a library is the leaking line if a good part of the leaked bytes is
    allocated there and the program's line that called into the library is marked."""
    if any(place in program.marks for place in places[:2]):
        return True
    whole = sum(row["bytes"] for row in costs.values())
    cost = costs.get(places[0]) if places else None
    if cost is None or cost["bytes"] < LIBRARY_SHARE * whole or places[0][0] == program.file:
        return False
    return next((place in program.marks for place in places if place[0] == program.file), False)


def judge_leak(program, report, costs, objects_per_second):
    """The first finding against the truth about its line."""
    first = report["findings"][0] if report["findings"] else None
    places = python_places(first) if first else []
    rate = first["bytes_per_second"] if first else {"estimate": None, "low": None, "high": None}
    cost = costs.get(places[0]) if places else None
    result = {"place": "%s:%s" % places[0] if places else None, "found": is_found(places, program, costs), **rate,
              "truth_low": None, "truth_high": None, "inside": False}
    if cost:
        result["truth_low"] = (cost["bytes"] - cost["container"]) * objects_per_second * (1 - TRUTH_TOLERANCE)
        result["truth_high"] = (cost["rounded"] + cost["container"]) * objects_per_second * (1 + TRUTH_TOLERANCE)
        if None not in (rate["low"], rate["high"]):
            result["inside"] = rate["low"] <= result["truth_high"] and rate["high"] >= result["truth_low"]
    return result


def traced_pid(target):
    """A prefork server's worker, otherwise the target itself."""
    worker = next((line for line in target.lines.seen if line.startswith("worker ")), None)
    if worker is None and "prefork" in target.program:
        worker = target.lines.wait("worker ", 10)
    return int(worker.split()[1]) if worker else target.pid


def measure(interpreter, program, seconds, options=()):
    """One program once: started, warmed up, traced in the default mode, judged."""
    leaks = program.family == "leak"
    costs = calibrate(interpreter, program) if leaks else {}
    inside, outside = harness.output_path(interpreter, "truth.jsonl")
    with harness.Target(interpreter, "services/" + program.file, env={"LEAKSNOOP_TRUTH": inside}) as target:
        pid = traced_pid(target)
        time.sleep(WARM_UP)
        traced = harness.run_leaksnoop("attach", pid, "--duration", seconds, "--format", "json", *OPTIONS, *options,
                                       timeout=seconds + 60)
        assert target.process.poll() is None, "%s ended: %s" % (program, target.stderr())
        report = traced.report
        time.sleep(NOTES_EVERY)
        target.check_unharmed()
    verdict = report["verdict"]["kind"] if report["verdict"] else None
    result = {"interpreter": interpreter.label, "program": program.name, "kind": program.kind, "family": program.family,
              "right": program.right, "mode": report["window"]["mode"], "seconds": seconds, "verdict": verdict,
              "verdict_right": verdict in program.right, "why": report["verdict"] and report["verdict"]["why"]}
    if leaks:
        result.update(judge_leak(program, report, costs, Counted(outside).per_second(*window_of(report))))
    return result


def measure_all(interpreter, chosen, seconds, at_a_time, options=()):
    """Several programs, a few at a time."""
    harness.chroots.place(interpreter.root)
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        futures = [pool.submit(measure, interpreter, program, seconds, options) for program in chosen]
        return [future.result() for future in futures]


def share(results, key):
    """The share of the results in which something is so."""
    return sum(bool(result[key]) for result in results) / len(results) if results else 0.0


def as_text(result):
    """A result as a line for people."""
    words = ["%s on %s: verdict %s" % (result["program"], result["interpreter"], result["verdict"])]
    if not result["verdict_right"]:
        words.append("right would be %s (%s)" % (" or ".join(result["right"]), result["why"]))
    if result["family"] == "leak":
        words.append("%s %s" % ("found" if result["found"] else "NOT FOUND, but", result["place"]))
        words.append("says %s [%s, %s], truth %s to %s" % tuple(
            "null" if result[key] is None else "%.0f" % result[key] for key in ("estimate", "low", "high", "truth_low", "truth_high")))
    return "; ".join(words)
