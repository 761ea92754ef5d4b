# SPDX-License-Identifier: MIT
"""Unharmed targets: whatever happens to the tracer or the target, the target computes on and its slots are its own again.

Each kind of fault is repeated LEAKSNOOP_FAULTS times (10; 100 with LEAKSNOOP_FULL=1), at other moments each time.
"""

import json
import os
import signal
import time

import pytest

import harness

SLEEPERS = ["idle.py", "blocked.py", "busy_threads.py"]
REPEATS = range(harness.FAULTS)


def moment(limit, seed):
    time.sleep(harness.in_random_order_of_time(limit, seed))


def check_restored(target):
    assert harness.armed_slots(target.pid) == []


@pytest.mark.parametrize("program", SLEEPERS)
def test_killed_while_armed(some_interpreter, program):
    """kill -9 of the tracer: the target runs on with its slots armed, and the next run restores them."""
    with harness.Target(some_interpreter, program) as target:
        left = 0
        for seed in REPEATS:
            with harness.Trace(target.pid) as trace:
                moment(0.05, seed)
                trace.kill()
            target.check_unharmed()
            if seed % 3 == 0:  # the others are found by the next attach
                left += harness.doctor(target.pid, "--disarm")["restored"]
                check_restored(target)
        harness.doctor(target.pid, "--disarm")
        check_restored(target)
        target.check_unharmed()
        assert left > 0, "a tracer killed while armed must have left something"


def test_killed_at_any_moment(python):
    """The same from the start of the tracer on: while it loads, arms, traces."""
    with harness.Target(python, "busy_threads.py") as target:
        for seed in REPEATS:
            with harness.Trace(target.pid, wait=False) as trace:
                moment(0.6, seed)
                trace.kill()
            assert target.process.poll() is None
        target.check_unharmed()
        harness.doctor(target.pid, "--disarm")
        check_restored(target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", SLEEPERS)
def test_stopped_by_a_signal(python, program, number):
    with harness.Target(python, program) as target:
        for seed in REPEATS:
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.2, seed)
                report = trace.interrupt(number).report
            assert report["target"]["pid"] == target.pid
            check_restored(target)
        target.check_unharmed()


def test_interrupted_at_any_moment(python):
    """Ctrl-C before it is attached, too: it ends soon, and nothing stays armed."""
    with harness.Target(python, "busy_threads.py") as target:
        for seed in REPEATS:
            with harness.Trace(target.pid, wait=False) as trace:
                moment(0.6, seed)
                trace.interrupt(timeout=10)
            check_restored(target)
        target.check_unharmed()


def test_stopped_target(python):
    """A SIGSTOPped process is traced like any other, and stays stopped."""
    with harness.Target(python, "busy_threads.py") as target:
        for seed in REPEATS:
            target.signal(signal.SIGSTOP)
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.1, seed)
                assert trace.interrupt().report["coverage"]["dropped"] == 0
            assert harness_state(target.pid) == "T"
            check_restored(target)
            target.signal(signal.SIGCONT)
        target.check_unharmed()


def harness_state(pid):
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rsplit(")", 1)[1].split()[0]


@pytest.mark.parametrize("how", ["return", "_exit", "abort"])
def test_target_exits(python, how):
    """The target ends at a random moment: a final report, status 0, and the exit status is the target's own."""
    for seed in REPEATS:
        with harness.Target(python, "exiter.py", "--seed", seed, "--how", how) as target:
            with harness.Trace(target.pid, "--format", "json") as trace:
                target.go()
                report = trace.wait(20).report
            assert target.process.wait(10) == (-signal.SIGABRT if how == "abort" else 0)
        assert report["target"]["pid"] == target.pid


def test_target_is_killed(python):
    for seed in REPEATS:
        with harness.Target(python, "busy_threads.py") as target:
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.1, seed)
                target.process.kill()
                report = trace.wait(20).report
        assert report["findings"]


def test_target_execs(python):
    """An exec ends the program that was traced: a final report; the next image runs unharmed and is traced anew."""
    with harness.Target(python, "execer.py", "--execs", harness.FAULTS, "--pause", 0.3) as target:
        with harness.Trace(target.pid, "--format", "json") as trace:
            target.go()
            report = trace.wait(20).report
        assert report["target"]["pid"] == target.pid
        for _ in REPEATS:
            if any(line == "done" for line in target.lines.seen):
                break
            result = harness.run_leaksnoop("attach", target.pid, "--format", "json", "--duration", 20)
            assert result.status in (0, 1), result
            target.lines.wait("OK", 10)
            if result.status == 1:
                assert "error" in result.stderr
            if "done" in target.lines.seen or len([s for s in target.lines.seen if s.startswith("OK 0")]):
                break
        target.wait_done()
        target.check_unharmed()
        check_restored(target)
        assert not [line for line in target.lines.seen if "WRONG" in line]


def test_target_forks_under_load(some_interpreter):
    """Children of an armed process compute right results and end by themselves; the parent ends restored."""
    children = max(harness.FAULTS, 20)
    with harness.Target(some_interpreter, "forker.py", "--children", children) as target:
        report = harness.trace_until_done(target, "--format", "json")
        assert "OK forked %d" % children in target.lines.seen
        target.check_unharmed()
        check_restored(target)
    assert report["coverage"]["dropped"] == 0


def test_forked_children_are_disarmed(python):
    """A child that lives on after the fork has its own copy of the slots: they must be its functions again."""
    with harness.Target(python, "forking_slowly.py") as target:
        with harness.Trace(target.pid) as trace:
            target.go()
            target.wait_done()
            trace.interrupt()
        children = [int(line.split()[1]) for line in target.lines.seen if line.startswith("child ")]
        try:
            assert len(children) == 3
            for child in children:
                assert harness.armed_slots(child) == []
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_pid_of_another_process(python):
    """The report of an ended target is not continued with a process that got its PID: the tracer ends with its target."""
    with harness.Target(python, "exiter.py", "--max-ms", 1) as target:
        with harness.Trace(target.pid, "--format", "json", "--duration", 30) as trace:
            target.go()
            started = time.monotonic()
            assert trace.wait(20).status == 0
            assert time.monotonic() - started < 10


def test_nothing_is_printed_by_the_target(python):
    with harness.Target(python, "idle.py") as target:
        said = list(target.lines.seen)
        with harness.Trace(target.pid, "--format", "json") as trace:
            time.sleep(0.3)
            json.dumps(trace.interrupt().report)
        target.lines._more(0.1)
        assert target.lines.seen == said and target.stderr() == ""
