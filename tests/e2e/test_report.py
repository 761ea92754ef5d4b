# SPDX-License-Identifier: MIT
"""The report: every key of the JSON contract with its type, the leaking line first, text for people."""

import json
import re
import time

import pytest

import harness

NUMBER = (int, float)
NONE = type(None)
ESTIMATE = {"estimate": (*NUMBER, NONE), "low": (*NUMBER, NONE), "high": (*NUMBER, NONE)}
PART_NAMES = {"pymalloc-live", "pymalloc-free", "python-large", "libc-live", "libc-free", "mmap", "file", "stack", "other"}

# The contract: a type or types, a dict of members, [what each element is], or (NONE, dict) for what may be null.
FRAME = {"file": (str, NONE), "line": (int, NONE), "function": (str, NONE), "language": str}
TYPE = {"name": str, "count": int, "bytes": (int, NONE)}
HOLDER = {"path": str, "type": str, "length": (int, NONE), "growth_per_second": (*NUMBER, NONE),
          "steps": [{"type": str, "name": (str, NONE), "address": str}]}
FINDING = {
    "rank": int, "kind": str, "confidence": (*NUMBER, NONE), "bytes_per_second": ESTIMATE, "blocks_per_second": ESTIMATE,
    "live_bytes": int, "live_blocks": int, "delta_bytes": (int, NONE), "delta_blocks": (int, NONE), "first_hand": (bool, NONE),
    "traceback": [FRAME], "types": (NONE, [TYPE]), "holder": (NONE, HOLDER),
}
REPORT = {
    "schema": str,
    "target": {"pid": int, "python": str, "cmdline": [str], "container": (str, NONE)},
    "window": {"start": str, "seconds": NUMBER, "mode": str, "armed_seconds": (*NUMBER, NONE)},
    "coverage": {"seen": (int, NONE), "happened": (int, NONE), "ratio": (*NUMBER, NONE), "dropped": int,
                 "unresolved_frames": int, "notes": [str]},
    "memory": {"rss_bytes": int, "pss_bytes": (int, NONE), "growth_bytes_per_second": (*NUMBER, NONE),
               "explained_ratio": (*NUMBER, NONE),
               "parts": (NONE, [{"name": str, "bytes": int, "growth_bytes_per_second": (*NUMBER, NONE)}])},
    "verdict": (NONE, {"kind": str, "confidence": (*NUMBER, NONE), "why": str}),
    "findings": [FINDING],
}
VERDICTS = {"leak", "levelling", "fragmentation", "high-water", "native", "steady", "unknown"}


def breaches(value, shape, where="report"):
    """What of a value breaks the contract, as text."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return ["%s: %r is no object" % (where, value)]
        lacking = ["%s.%s: is missing" % (where, key) for key in shape if key not in value]
        return lacking + [b for key in shape if key in value for b in breaches(value[key], shape[key], where + "." + key)]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return ["%s: %r is no array" % (where, value)]
        return [b for i, item in enumerate(value) for b in breaches(item, shape[0], "%s[%d]" % (where, i))]
    if isinstance(shape, tuple) and any(isinstance(option, (dict, list)) for option in shape):
        return [] if value is None else breaches(value, shape[1], where)
    if isinstance(value, bool) and shape is not bool and not (isinstance(shape, tuple) and bool in shape):
        return ["%s: a boolean" % where]
    return [] if isinstance(value, shape) else ["%s: %r" % (where, value)]


def check_contract(report):
    assert not breaches(report, REPORT)
    assert report["schema"] == "leaksnoop.report/1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", report["window"]["start"])
    assert report["window"]["mode"] in ("passive", "sampled", "exact")
    assert [f["rank"] for f in report["findings"]] == list(range(1, len(report["findings"]) + 1))
    assert report["verdict"] is None or report["verdict"]["kind"] in VERDICTS
    assert {part["name"] for part in report["memory"]["parts"] or []} <= PART_NAMES
    for finding in report["findings"]:
        assert finding["kind"] in ("python", "native", "mmap", "fragmentation")
        assert {frame["language"] for frame in finding["traceback"]} <= {"python", "native"}


def leak_line():
    (line,) = harness.keep_lines("leaky_service.py").values()
    return "leaky_service.py", line


def attach(target, *args, seconds=3):
    mode = [] if "--mode" in args else ["--mode", "exact"]
    return harness.run_leaksnoop("attach", target.pid, "--duration", seconds, *mode, *args)


def test_contract_and_leaking_line_first(some_interpreter):
    with harness.Target(some_interpreter, "leaky_service.py", "--rate", 300) as target:
        report = attach(target, "--format", "json", seconds=2).report
        target.check_unharmed()
    check_contract(report)
    assert report["target"]["pid"] == target.pid
    assert report["target"]["python"].startswith("%d.%d." % some_interpreter.version)
    assert report["target"]["cmdline"][-3:] == [target.program, "--rate", "300"]
    assert harness.place_of(report["findings"][0]) == leak_line()
    assert report["findings"][0]["bytes_per_second"]["estimate"] > 100000
    assert report["coverage"]["ratio"] >= 0.999 and report["coverage"]["dropped"] == 0


def test_interval_prints_one_report_a_line(leaky):
    result = attach(leaky, "--format", "json", "--interval", 1, seconds=3.5)
    reports = result.reports
    assert 3 <= len(reports) <= 5
    for report in reports:
        check_contract(report)
    seconds = [r["window"]["seconds"] for r in reports]
    assert seconds == sorted(seconds)
    top = [next(f for f in r["findings"] if harness.place_of(f) == leak_line()) for r in reports]
    for before, after in zip(top, top[1:]):
        assert after["delta_bytes"] == after["live_bytes"] - before["live_bytes"]
        assert after["delta_blocks"] == after["live_blocks"] - before["live_blocks"]


def test_text_names_the_leaking_line_first(leaky):
    result = attach(leaky)
    assert result.status == 0, result
    assert "\033" not in result.stdout, "colours are for terminals"
    lines = re.findall(r"(\w+\.py):(\d+)", result.stdout)
    assert lines and (lines[0][0], int(lines[0][1])) == leak_line()
    assert "SESSIONS.append" in result.stdout, "the source text of the line"


def test_output_file(leaky, tmp_path):
    result = attach(leaky, "--format", "json", "--output", tmp_path / "report.json", seconds=1)
    assert (result.status, result.stdout) == (0, "")
    check_contract(json.loads((tmp_path / "report.json").read_text()))


def test_top_limits_the_findings(leaky):
    report = attach(leaky, "--format", "json", "--top", 2, seconds=1).report
    assert len(report["findings"]) == 2


def test_min_age_leaves_out_the_young(leaky):
    report = attach(leaky, "--format", "json", "--min-age", 3600, "--top", 0, seconds=1).report
    assert not [f for f in report["findings"] if f["live_blocks"]]


def test_passive_writes_nothing_and_sees_growth(some_interpreter):
    with harness.Target(some_interpreter, "leaky_service.py", "--rate", 1000) as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid, "--mode", "passive", "--format", "json", "--duration", 3, "--top", 0) as trace:
            assert slots.armed() == []
            report = trace.wait().report
        target.check_unharmed()
    check_contract(report)
    assert report["window"]["mode"] == "passive"
    assert report["findings"], "800 KB a second need new memory"


@pytest.mark.parametrize("malloc", ["malloc", "debug", "pymalloc_debug"])
def test_other_allocators_are_traced_or_named(python, malloc):
    with harness.Target(python, "leaky_service.py", "--rate", 300, env={"PYTHONMALLOC": malloc}) as target:
        result = attach(target, "--format", "json", seconds=2)
        target.check_unharmed()
    assert "malloc" in json.dumps(result.report["coverage"]["notes"]) or leads_with_leak(result.report)


def test_running_tracemalloc_is_traced_or_named(python):
    with harness.Target(python, "leaky_service.py", "--rate", 300, env={"PYTHONTRACEMALLOC": "1"}) as target:
        result = attach(target, "--format", "json", seconds=2)
        target.check_unharmed()
    assert "tracemalloc" in json.dumps(result.report["coverage"]["notes"]) or leads_with_leak(result.report)


def leads_with_leak(report):
    return bool(report["findings"]) and harness.place_of(report["findings"][0]) == leak_line()


def test_prefork_parent_names_its_children(python):
    with harness.Target(python, "prefork.py") as target:
        children = [line.split()[1] for line in target.lines.seen if line.startswith("child ")]
        report = attach(target, "--format", "json", seconds=2).report
        notes = " ".join(report["coverage"]["notes"])
        target.process.terminate()
        target.process.wait()
    assert len(children) == 3
    for child in children:
        assert re.search(r"\b%s\b" % child, notes), "child %s is not named in: %s" % (child, notes)


def test_ps_lists_the_target(some_interpreter):
    with harness.Target(some_interpreter, "idle.py") as target:
        listed = harness.run_leaksnoop("ps", "--format", "json").report
        text = harness.run_leaksnoop("ps").stdout
    (row,) = [row for row in listed["processes"] if row["pid"] == target.pid]
    assert row["python"].startswith("%d.%d." % some_interpreter.version)
    assert row["rss_bytes"] > 1 << 20 and row["arenas"] >= 1
    assert "idle.py" in json.dumps(row["command"])
    assert re.search(r"^ *%d +%d\.%d\." % (target.pid, *some_interpreter.version), text, re.M)


def test_doctor(some_interpreter):
    with harness.Target(some_interpreter, "idle.py") as target:
        process = harness.doctor(target.pid)
        target.check_unharmed()
    assert process["target"]["python"].startswith("%d.%d." % some_interpreter.version)
    # Four functions of three domains; from 3.13 the reference tracer.
    assert len(process["slots"]) == 12 + (some_interpreter.version >= (3, 13)) and not any(slot["armed"] for slot in process["slots"])
    assert process["expected_coverage"] == "complete"


def test_report_at_the_end_of_the_target(python):
    with harness.Target(python, "exiter.py", "--max-ms", 300, "--how", "_exit") as target:  # an orderly exit frees all
        with harness.Trace(target.pid, "--format", "json") as trace:
            target.go()
            started = time.monotonic()
            report = trace.wait(20).report
            assert time.monotonic() - started < 10
        assert target.process.wait(10) == 0
    check_contract(report)
    assert report["findings"]
