# SPDX-License-Identifier: MIT
"""Right numbers: live blocks and bytes by line within 1 % of what tracemalloc says of the same program, nothing dropped."""

import json
import os

import pytest

import harness

SIZE = 10000
TOLERANCE = 0.01

# (name of the line, condition on the version) -> why a free list makes the tracer say something else there, and how far off it
# may be as a share. right_numbers.py empties the free lists before each line, so this is empty as long as that works.
EXPLAINED = {}


def tracemalloc_says(interpreter):
    inside, outside = harness.output_path(interpreter, "truth.json")
    args = ["--out", inside, "--size", SIZE, "--rate", 0, "--tracemalloc"]
    with harness.Target(interpreter, "right_numbers.py", *args, ready="done", timeout=180):
        return json.loads(outside.read_text())


def leaksnoop_says(interpreter, *options):
    inside, outside = harness.output_path(interpreter, "numbers.json")
    with harness.Target(interpreter, "right_numbers.py", "--out", inside, "--size", SIZE) as target:
        report = harness.trace_until_done(target, "--mode", "exact", "--format", "json", "--group-by", "line", "--frames", 1,
                                          "--top", 0, *options)
        target.check_unharmed()
        return report, json.loads(outside.read_text())


def by_line(report):
    """line of right_numbers.py -> (blocks, bytes)"""
    blocks = harness.python_blocks(report)
    return {place[1]: total for place, total in blocks.items() if place and place[0] == "right_numbers.py"}


def tolerance_of(name, version):
    explained = [share for (line, applies), (_, share) in EXPLAINED.items() if line == name and applies(version)]
    return max([TOLERANCE, *explained])


def differs(got, expected, tolerance):
    return any(abs(g - e) > tolerance * e for g, e in zip(got, expected))


def check_numbers(interpreter, *options):
    truth = tracemalloc_says(interpreter)
    report, program = leaksnoop_says(interpreter, *options)
    got = by_line(report)
    assert program["lines"] == truth["lines"] and len(truth["lines"]) >= 20
    wrong = []
    for name, line in truth["lines"].items():
        expected = truth["tracemalloc"][str(line["line"])]
        assert expected[0] >= SIZE, "%s keeps too little" % name
        seen = got.get(line["line"], (0, 0))
        if differs(seen, expected, tolerance_of(name, interpreter.version)):
            wrong.append("%s (line %d): %d blocks, %d bytes; tracemalloc says %d, %d; free lists hold %s"
                         % (name, line["line"], *seen, *expected, line["free_list"] or "none"))
    assert not wrong, "\n".join(wrong)
    check_coverage(report["coverage"])


def test_blocks_and_bytes_by_line(some_interpreter):
    check_numbers(some_interpreter)


def test_with_a_perf_event_a_probe(python):
    """What kernels before 6.12 do, which have no multi-uprobe links that filter by process."""
    check_numbers(python, "--perf-uprobes")


def check_coverage(coverage):
    assert coverage["ratio"] is not None and coverage["ratio"] >= 0.999
    assert coverage["ratio"] <= 1.001
    assert coverage["dropped"] == 0


def test_filters_and_grouping_agree(python):
    """The same program by file and by line, included and excluded."""
    inside, _ = harness.output_path(python, "numbers.json")
    with harness.Target(python, "right_numbers.py", "--out", inside, "--size", 500) as target:
        report = harness.trace_until_done(target, "--format", "json", "--group-by", "file", "--top", 0, "--include", "*right_numbers.py")
    assert [os.path.basename(f["traceback"][0]["file"]) for f in report["findings"]] == ["right_numbers.py"]
    with harness.Target(python, "right_numbers.py", "--out", inside, "--size", 500) as target:
        report = harness.trace_until_done(target, "--format", "json", "--top", 0, "--exclude", "*right_numbers.py")
    assert not by_line(report)


@pytest.mark.parametrize("mode", ["exact"])
def test_freed_blocks_leave_nothing_behind(python, mode):
    """Threads which allocate and free 2 million blocks a second: what lives at the end is a handful."""
    with harness.Target(python, "busy_threads.py") as target:
        with harness.Trace(target.pid, "--mode", mode, "--duration", 2, "--format", "json", "--top", 0) as trace:
            report = trace.wait().report
        target.check_unharmed()
    check_coverage(report["coverage"])
    assert report["coverage"]["seen"] > 50000
    assert sum(f["live_bytes"] for f in report["findings"]) < 2 << 20
