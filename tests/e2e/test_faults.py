# SPDX-License-Identifier: MIT
"""Unharmed targets: whatever happens to the tracer or the target, the target computes on and its slots are its own again.

Each kind of fault is repeated LEAKSNOOP_FAULTS times (10; 100 with LEAKSNOOP_FULL=1), at other moments each time. A kind
with several variants divides them among its variants, except in a full run. The end of a tracer takes seconds, since the
kernel waits for a grace period a probe: that is the time these tests take.
"""

import os
import signal
import time

import pytest

import harness

SLEEPERS = ["idle.py", "blocked.py", "busy_threads.py"]


def moment(limit, seed):
    time.sleep(harness.in_random_order_of_time(limit, seed))


def state_of(pid):
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def kill_while_armed(target, slots, seeds):
    """kill -9 again and again: the target runs on with its slots armed, and the next tracer restores them."""
    for seed in seeds:
        with harness.Trace(target.pid) as trace:
            moment(0.1, seed)
            trace.kill()
        target.check_unharmed()
        assert slots.armed(), "a tracer killed while armed must have left its slots so"


def check_disarm(target, slots):
    process = harness.doctor(target.pid, "--disarm")
    assert process["restored"] > 0
    assert slots.armed() == []
    target.check_unharmed()


@pytest.mark.parametrize("program", SLEEPERS)
def test_killed_while_armed(python, program):
    with harness.Target(python, program) as target:
        slots = harness.Slots.of(target)
        kill_while_armed(target, slots, harness.repeats(4))
        check_disarm(target, slots)


def test_killed_while_armed_elsewhere(some_interpreter):
    """The same with the other interpreters; here the next tracer, not doctor, restores at last."""
    with harness.Target(some_interpreter, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        kill_while_armed(target, slots, harness.repeats(10))
        report = harness.run_leaksnoop("attach", target.pid, "--mode", "exact", "--duration", 0.2, "--format", "json").report
        assert report["coverage"]["ratio"] >= 0.999
        assert slots.armed() == []
        target.check_unharmed()


def test_killed_at_any_moment(python):
    """The same from the start of the tracer on: while it loads, arms, traces."""
    with harness.Target(python, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        for seed in harness.repeats(2):
            with harness.Trace(target.pid, wait=False) as trace:
                moment(0.4, seed)
                trace.kill()
            target.check_unharmed()
        harness.doctor(target.pid, "--disarm")
        assert slots.armed() == []
        target.check_unharmed()


@pytest.mark.parametrize("program", SLEEPERS)
def test_stopped_by_a_signal(python, program):
    """Ctrl-C and SIGTERM: the final report, and slots that are restored before it is printed."""
    with harness.Target(python, program) as target:
        slots = harness.Slots.of(target)
        for seed in harness.repeats(3):
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.2, seed)
                report = trace.interrupt(signal.SIGTERM if seed % 3 == 1 else signal.SIGINT).report
            assert report["target"]["pid"] == target.pid
            assert slots.armed() == []
        target.check_unharmed()


def test_interrupted_at_any_moment(python):
    """Ctrl-C before it is attached, too: it ends, and nothing stays armed."""
    with harness.Target(python, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        for seed in harness.repeats(2):
            with harness.Trace(target.pid, wait=False) as trace:
                moment(0.3, seed)
                trace.interrupt(timeout=20)
            assert slots.armed() == []
        target.check_unharmed()


def test_stopped_target(python):
    """A SIGSTOPped process is traced like any other, and stays stopped."""
    with harness.Target(python, "busy_threads.py") as target:
        slots = harness.Slots.of(target)
        for seed in harness.repeats(2):
            target.signal(signal.SIGSTOP)
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.1, seed)
                assert trace.interrupt().report["coverage"]["dropped"] == 0
            assert state_of(target.pid) == "T"
            assert slots.armed() == []
            target.signal(signal.SIGCONT)
        target.check_unharmed()


@pytest.mark.parametrize("how", ["return", "_exit", "abort"])
def test_target_exits(python, how):
    """The target ends at a random moment: a final report, status 0, and the exit status is the target's own."""
    for seed in harness.repeats(3):
        with harness.Target(python, "exiter.py", "--seed", seed, "--how", how) as target:
            with harness.Trace(target.pid, "--format", "json") as trace:
                target.go()
                report = trace.wait(20).report
            assert target.process.wait(10) == (-signal.SIGABRT if how == "abort" else 0)
        assert report["target"]["pid"] == target.pid


def test_target_is_killed(python):
    for seed in harness.repeats(2):
        with harness.Target(python, "busy_threads.py") as target:
            with harness.Trace(target.pid, "--format", "json") as trace:
                moment(0.1, seed)
                target.process.kill()
                report = trace.wait(20).report
        assert report["target"]["pid"] == target.pid


def test_target_execs(python):
    """An exec ends the program that was traced: a final report. The next images run unharmed, and can be traced anew."""
    execs = 4 * harness.FAULTS
    with harness.Target(python, "execer.py", "--execs", execs, "--pause", 0.1) as target:
        with harness.Trace(target.pid, "--format", "json") as trace:
            target.go()
            assert trace.wait(20).report["target"]["pid"] == target.pid
        for _ in harness.repeats(5):
            result = harness.run_leaksnoop("attach", target.pid, "--mode", "exact", "--format", "json", "--duration", 20)
            assert result.status in (0, 1), result
            assert result.status == 0 or "error" in result.stderr
        target.wait_done(timeout=60 + execs)
        target.check_unharmed()
        assert harness.Slots.of(target).armed() == []


def test_target_forks_under_load(some_interpreter):
    """Children of an armed process compute right results and end by themselves; the parent ends restored."""
    children = max(harness.FAULTS, 20)
    with harness.Target(some_interpreter, "forker.py", "--children", children) as target:
        slots = harness.Slots.of(target)
        report = harness.trace_until_done(target, "--format", "json")
        assert "OK forked %d" % children in target.lines.seen
        target.check_unharmed()
        assert slots.armed() == []
    assert report["coverage"]["dropped"] == 0


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_children_that_outlive_the_tracer(python, killed):
    """A child has its own copy of the slots: a tracer that stops restores it, one that is killed leaves it running on them."""
    with harness.Target(python, "forking_slowly.py") as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid) as trace:
            target.go()
            target.wait_done()
            trace.kill() if killed else trace.interrupt()
        children = [int(line.split()[1]) for line in target.lines.seen if line.startswith("child ")]
        try:
            assert len(children) == 3
            for child in children:
                assert state_of(child) != "Z", "a child computes on"
                if killed and slots.armed(child):
                    harness.doctor(child, "--disarm")
                assert slots.armed(child) == []
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


def test_tracer_ends_with_its_target(python):
    """So that it never goes on with another process which got the same PID."""
    with harness.Target(python, "exiter.py", "--max-ms", 1) as target:
        with harness.Trace(target.pid, "--format", "json", "--duration", 60) as trace:
            target.go()
            target.process.wait()
            started = time.monotonic()
            assert trace.wait(20).status == 0
            assert time.monotonic() - started < 15


def test_nothing_is_printed_by_the_target(python):
    with harness.Target(python, "idle.py") as target:
        said = list(target.lines.seen)
        with harness.Trace(target.pid, "--format", "json") as trace:
            time.sleep(0.3)
            assert trace.interrupt().status == 0
        target.lines.read_for(0.1)
        assert target.lines.seen == said and target.stderr() == ""


def start_with_pid(pid, start):
    """start() until what it starts has this PID; the kernel hands out the number after the last one."""
    for _ in range(200):
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
        process = start()
        if process.pid == pid:
            return process
        process.close()
    pytest.fail("PID %d could not be had again" % pid)


def test_pid_is_reused(python):
    """The target dies unseen and another Python gets its PID: it is told apart, and left alone."""
    with harness.Target(python, "busy_threads.py") as target:
        with harness.Trace(target.pid, "--format", "json") as trace:
            os.kill(trace.pid, signal.SIGSTOP)
            target.process.kill()
            target.process.wait()
            with start_with_pid(target.pid, lambda: harness.Target(python, "busy_threads.py")) as other:
                os.kill(trace.pid, signal.SIGCONT)
                report = trace.wait(20).report
                assert any("killed by signal 9" in note for note in report["coverage"]["notes"]), report["coverage"]["notes"]
                assert harness.Slots.of(other).armed() == []
                other.check_unharmed()
