# SPDX-License-Identifier: MIT
"""Objects at first hand (3.13+): through the reference tracer's slot the line is named that made an object, whoever allocated its memory.

tracemalloc and memray charge what comes from a free list, the key tables of dicts above all, to the line that had it first.
"""

import os
import signal

import pytest

import harness

ROUNDS = 50
KEPT = ROUNDS * 20
BLOCKS_A_THING = {"dict": 2, "list": 2, "float": 1, "tuple": 1}  # a dict and its key table, a list and its array
TOLERANCE = 0.01


def lines_of(mark):
    return harness.keep_lines("free_lists.py", mark)


def trace(interpreter, *args):
    with harness.Target(interpreter, "free_lists.py", "--rounds", ROUNDS, *args) as target:
        slots = harness.Slots.of(target)
        report = harness.trace_until_done(target, "--mode", "exact", "--format", "json", "--top", 0)
        target.check_unharmed()
        assert "kept %d" % KEPT in target.lines.seen
        return report, slots.armed()


def test_free_lists_hide_nothing(object_interpreter):
    """Each leaked thing is charged to the line that made it, whole; no other line of the program is called certain near the top."""
    report, armed = trace(object_interpreter)
    assert armed == [] and report["coverage"]["notes"] == []
    assert report["coverage"]["dropped"] == 0 and report["coverage"]["ratio"] >= 0.999
    found = {harness.place_of(f): f for f in report["findings"] if f["kind"] == "python"}
    for kind, line in lines_of("LEAK").items():
        finding = found[("free_lists.py", line)]
        expected = KEPT * BLOCKS_A_THING[kind]
        assert abs(finding["live_blocks"] - expected) <= expected * TOLERANCE, kind
        assert finding["first_hand"] is True, kind
    innocent = {("free_lists.py", line) for line in lines_of("INNOCENT").values()}
    for finding in report["findings"][:3]:
        assert harness.place_of(finding) not in innocent or finding["first_hand"] is not True
    # What the free lists of the interpreter hold at the end is bounded.
    for place in innocent & found.keys():
        assert found[place]["live_blocks"] <= 120


def test_key_tables_in_the_free_list_are_second_hand(object_interpreter):
    """What is in nobody's dict is reported with the line that had it first, but not as certain."""
    report, _ = trace(object_interpreter)
    line = lines_of("INNOCENT")["dict"]
    tables = [f for f in report["findings"] if harness.place_of(f) == ("free_lists.py", line)]
    assert [f["first_hand"] for f in tables] == [False]
    assert 1 <= tables[0]["live_blocks"] <= 120


def test_exited_target_names_the_likelier_line(object_interpreter):
    """The memory of a process that is gone cannot tell whose a key table is: then it stays second-hand, with the line that made the dicts."""
    with harness.Target(object_interpreter, "free_lists.py", "--rounds", ROUNDS) as target:
        with harness.Trace(target.pid, "--mode", "exact", "--format", "json", "--top", 0) as tracer:
            target.go()
            target.wait_done()
            target.process.kill()
            report = tracer.wait().report
    leaks, innocent = lines_of("LEAK"), lines_of("INNOCENT")
    found = {harness.place_of(f): f for f in report["findings"] if f["kind"] == "python"}
    assert found[("free_lists.py", leaks["dict"])]["first_hand"] is True
    assert found[("free_lists.py", innocent["dict"])]["first_hand"] is False
    assert found[("free_lists.py", innocent["dict"])]["likelier_source"]["line"] == leaks["dict"]


def test_freed_objects_leave_nothing_behind(object_interpreter):
    """Millions of objects of all kinds, most out of free lists, in four threads: what lives at the end is a handful."""
    with harness.Target(object_interpreter, "busy_threads.py") as target:
        with harness.Trace(target.pid, "--mode", "exact", "--duration", 2, "--format", "json", "--top", 0) as tracer:
            report = tracer.wait().report
        target.check_unharmed()
    assert report["coverage"]["ratio"] >= 0.999 and report["coverage"]["dropped"] == 0
    assert report["coverage"]["seen"] > 50000
    assert sum(f["live_bytes"] for f in report["findings"]) < 2 << 20


@pytest.mark.parametrize("when", ["before", "after"])
def test_slot_of_another_tracer(object_interpreter, when):
    """A reference tracer of the program, installed before the attach or meanwhile, is left alone; the report says what that costs."""
    report, armed = trace(object_interpreter, "--tracer", when)
    reason = {"before": "another reference tracer is installed", "after": "the program changed the reference tracer while it was traced"}
    assert "objects are not seen at first hand: " + reason[when] in report["coverage"]["notes"]
    assert len(armed) == 1, "its tracer, and nothing of ours"
    assert report["coverage"]["ratio"] >= 0.999
    assert {f["first_hand"] for f in report["findings"]} <= {None}


def ref_tracer_row(target):
    return next(row for row in harness.doctor(target.pid)["slots"] if row["domain"] == "ref_tracer")


@pytest.mark.parametrize("restorer", ["doctor", "attach"])
def test_killed_while_armed(object_interpreter, restorer):
    with harness.Target(object_interpreter, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid, "--mode", "exact") as tracer:
            tracer.kill()
        target.check_unharmed()
        row = ref_tracer_row(target)
        assert row["armed"] and row["value"] and row["slot"] in slots.armed()
        if restorer == "doctor":
            assert harness.doctor(target.pid, "--disarm")["restored"] > 1
        else:
            report = harness.run_leaksnoop("attach", target.pid, "--mode", "exact", "--duration", 0.2, "--format", "json").report
            assert any("left armed by a killed tracer" in note for note in report["coverage"]["notes"])
        assert slots.armed() == []
        assert not ref_tracer_row(target)["armed"]
        target.check_unharmed()


def test_forked_children_are_restored(object_interpreter):
    with harness.Target(object_interpreter, "forking_slowly.py") as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid, "--mode", "exact") as tracer:
            target.go()
            target.wait_done()
            tracer.interrupt()
        children = [int(line.split()[1]) for line in target.lines.seen if line.startswith("child ")]
        try:
            assert len(children) == 3
            assert [slots.armed(child) for child in children] == [[], [], []]
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
        target.check_unharmed()


def test_passive_mode_writes_nothing_there(object_interpreter):
    with harness.Target(object_interpreter, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid, "--mode", "passive"):
            assert slots.armed() == []
