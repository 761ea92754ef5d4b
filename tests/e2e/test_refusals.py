# SPDX-License-Identifier: MIT
"""Each refusal: its exit status, and a message that says what, on what, why and what to do."""

import json
import os
import pathlib
import subprocess

import pytest

import harness
from harness import as_nobody, check_refusal


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize("verb", ["attach", "doctor", "arenas"])
def test_not_a_python(verb, sleeper):
    check_refusal(harness.run_leaksnoop(verb, sleeper), str(sleeper), "not a Python")


@pytest.mark.parametrize("verb", ["attach", "doctor", "arenas"])
def test_gone(verb):
    process = subprocess.Popen(["true"])
    process.wait()
    check_refusal(harness.run_leaksnoop(verb, process.pid), str(process.pid), "no (such )?process|ended|gone")


def test_zombie():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    check_refusal(harness.run_leaksnoop("attach", process.pid), str(process.pid))
    process.wait()


def test_kernel_thread():
    if not pathlib.Path("/proc/2/stat").exists() or "kthreadd" not in pathlib.Path("/proc/2/stat").read_text():
        pytest.skip("needs the initial PID namespace, to see a kernel thread")
    check_refusal(harness.run_leaksnoop("attach", 2), r"\b2\b")


def test_itself():
    """Not a Python either; but it must not stumble over its own lock or memory."""
    done = subprocess.run(["sh", "-c", 'exec "$0" attach $$', str(harness.BINARY)], capture_output=True, text=True)
    check_refusal(harness.Result(done.returncode, done.stdout, done.stderr), "not a Python")


@pytest.mark.parametrize("verb", ["attach", "doctor", "heap", "arenas", "memory"])
def test_no_permission(verb, python, tmp_path):
    with harness.Target(python, "idle.py") as target:
        result = as_nobody(tmp_path, verb, target.pid)
        check_refusal(result, "permission")
        assert "root" in result.stderr
        target.check_unharmed()


def test_ps_without_permission(tmp_path):
    check_refusal(as_nobody(tmp_path, "ps"), "permission")


def test_unknown_version(old_interpreter):
    code = "import sys, time; sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(1000)"
    process = subprocess.Popen([*old_interpreter.command, "-c", code], stdout=subprocess.PIPE, env=harness.clean_environment())
    try:
        assert process.stdout.readline() == b"ready\n"
        result = harness.run_leaksnoop("attach", process.pid)
        check_refusal(result, str(process.pid), "Python", r"not supported|not known|unknown|older")
        assert "3.8" in result.stderr, "it says what is known"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("mode", ["exact", "passive"])
def test_second_tracer(leaky, mode):
    with harness.Trace(leaky.pid, "--mode", mode) as first:
        check_refusal(harness.run_leaksnoop("attach", leaky.pid), "traced already", str(first.pid))
        assert first.interrupt().status == 0
    assert harness.run_leaksnoop("attach", leaky.pid, "--duration", 0.5).status == 0


def test_disarm_while_traced(leaky):
    with harness.Trace(leaky.pid) as trace:
        check_refusal(harness.run_leaksnoop("doctor", leaky.pid, "--disarm"), "traced already")
        assert trace.interrupt().status == 0


def test_output_cannot_be_written(leaky):
    result = harness.run_leaksnoop("attach", leaky.pid, "--duration", 1, "--output", "/nonexistent/report")
    check_refusal(result, "/nonexistent/report", hint=False)
    assert harness.Slots.of(leaky).armed() == []


USAGE = [
    ["attach"], ["attach", "abc"], ["attach", "0"], ["attach", "-1"], ["attach", "99999999999"], ["attach", "12x"],
    ["attach", "1", "2"], ["attach", "1", "--frames", "0"], ["attach", "1", "--frames", "129"], ["attach", "1", "--frames", "x"],
    ["attach", "1", "--mode", "fast"], ["attach", "1", "--group-by", "colour"], ["attach", "1", "--format", "xml"],
    ["attach", "1", "--duration", "-1"], ["attach", "1", "--duration", "soon"], ["attach", "1", "--duration", "nan"],
    ["attach", "1", "--interval", ""], ["attach", "1", "--top", "-1"], ["attach", "1", "--ring-size", "1"],
    ["attach", "1", "--nonsense"], ["attach", "1", "--duration"], ["attahc", "1"], ["--nonsense"], ["doctor", "--disarm"],
    ["doctor", "x"], ["ps", "1"], ["arenas"], ["arenas", "x"], ["arenas", "1", "--top", "0"], ["arenas", "1", "2"],
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_usage(args):
    check_refusal(harness.run_leaksnoop(*args), status=2, hint=False)


def test_near_misses_are_guessed():
    assert "did you mean 'attach'" in harness.run_leaksnoop("attahc", "1").stderr
    assert "did you mean --duration" in harness.run_leaksnoop("attach", "1", "--duratoin", "1").stderr


def test_no_arguments_say_how():
    result = harness.run_leaksnoop()
    assert result.status == 2 and "attach" in result.stdout + result.stderr


HELP = [["--help"], ["help"], ["attach", "--help"], ["help", "attach"], ["ps", "--help"], ["--version"]]


@pytest.mark.parametrize("args", HELP, ids=" ".join)
def test_help(args):
    result = harness.run_leaksnoop(*args)
    assert result.status == 0 and result.stdout and not result.stderr


def test_errors_are_json_when_the_output_is(sleeper):
    result = harness.run_leaksnoop("attach", sleeper, "--format", "json")
    assert result.status == 1 and result.stdout == ""
    error = json.loads(result.stderr)
    assert error["schema"] == "leaksnoop.error/1"
    assert "not a Python" in error["error"] and isinstance(error["hint"], str)


def test_usage_errors_are_json_too():
    result = harness.run_leaksnoop("attach", "1", "--format", "json", "--frames", "0")
    assert result.status == 2
    assert set(json.loads(result.stderr)) == {"schema", "error", "hint"}


def test_hostile_command_line_is_escaped(python):
    """A process may call itself anything; no report sends that to a terminal."""
    hostile = "\033]0;title\007\033[2J"
    with harness.Target(python, "idle.py", hostile, "caf\u00e9") as target:
        for args in (["ps"], ["doctor", target.pid], ["attach", target.pid, "--duration", "0.3"]):
            result = harness.run_leaksnoop(*args)
            assert result.status == 0, result
            assert "\033" not in result.stdout and "\007" not in result.stdout
        report = harness.run_leaksnoop("attach", target.pid, "--duration", "0.3", "--format", "json").report
        assert report["target"]["cmdline"][-2:] == [hostile, "caf\u00e9"]


