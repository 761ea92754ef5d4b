# SPDX-License-Identifier: MIT
"""Targets that are hard to find: in another root, mount or PID namespace, with their program deleted or replaced on disk."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

import harness


def check_traced(pid):
    report = harness.run_leaksnoop("attach", pid, "--mode", "exact", "--duration", 2, "--format", "json").report
    (line,) = harness.keep_lines("leaky_service.py").values()
    assert harness.place_of(report["findings"][0]) == ("leaky_service.py", line)
    return report


def moved_python(interpreter, directory):
    """A private copy of the executable, which a test may delete or replace."""
    if interpreter.root != "/" or interpreter.is_plain:
        pytest.skip("needs a Python of the system itself, linked statically")
    copy = pathlib.Path(shutil.copy(interpreter.command[0], directory / "python"))
    return harness.Interpreter(interpreter.label, [str(copy)]), copy


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_program_deleted_or_replaced(python, tmp_path, fate):
    moved, copy = moved_python(python, tmp_path)
    with harness.Target(moved, "leaky_service.py", "--rate", 300, env={"PYTHONHOME": "/usr"}) as target:
        copy.unlink()
        if fate == "replaced":
            shutil.copy("/bin/true", copy)
        check_traced(target.pid)
        target.check_unharmed()


def child_of(pid, timeout=10):
    """The only child of a process, once it has one."""
    deadline = time.monotonic() + timeout
    path = "/proc/%d/task/%d/children" % (pid, pid)
    while time.monotonic() < deadline:
        with open(path) as file:
            children = file.read().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("no child")


@pytest.mark.parametrize("private_proc", [False, True], ids=["pid", "pid-and-mount"])
def test_other_namespaces(python, private_proc):
    """Its PID there is 1; we name it by the one here."""
    prefix = ["unshare", "--pid", "--fork", "--kill-child", *(["--mount-proc"] if private_proc else [])]
    with harness.Target(python, "leaky_service.py", "--rate", 300, prefix=prefix) as target:
        assert "pid 1" in target.lines.seen
        report = check_traced(child_of(target.pid))
        assert report["target"]["container"], "another PID namespace is worth naming"
        assert target.process.poll() is None


def test_started_with_a_private_mount_over_its_library(python, tmp_path):
    """What is at the path of its image in our namespace is another file than in its own."""
    moved, copy = moved_python(python, tmp_path)
    (tmp_path / "real").mkdir()
    real = shutil.copy(copy, tmp_path / "real" / "python")
    shutil.copy("/bin/true", copy)
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, str(real), str(copy)]
    moved.command = [str(copy)]
    with harness.Target(moved, "leaky_service.py", "--rate", 300, prefix=prefix, env={"PYTHONHOME": "/usr"}) as target:
        assert subprocess.run([str(copy)]).returncode == 0, "here it is /bin/true"
        check_traced(target.pid)
        target.check_unharmed()


def test_in_a_thread_group_whose_leader_sleeps(python):
    with harness.Target(python, "busy_threads.py", "--threads", 2) as target:
        tids = [int(name) for name in os.listdir("/proc/%d/task" % target.pid)]
        other = max(tids)
        result = harness.run_leaksnoop("attach", other, "--duration", 0.5)
        assert result.status in (0, 1), "a thread's id is either understood or refused: %r" % result
        target.check_unharmed()
