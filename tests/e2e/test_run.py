# SPDX-License-Identifier: MIT
"""leaksnoop run: a command is what it would be without, and its Pythons are traced from their birth."""

import contextlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import harness
from harness import BINARY, TARGETS, check_refusal, run_leaksnoop

GATE_SECONDS = 36
GATE = str(TARGETS / "gate.py")
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", GATE]


class Run:
    """A leaksnoop run at work. Use as a context: ended at the end, with its command, which must end of SIGTERM."""

    def __init__(self, *args, env=None, stdin=subprocess.DEVNULL, **popen):
        self.process = subprocess.Popen([str(BINARY), "run", *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=harness.clean_environment(env), **popen)
        self.pid = self.process.pid
        self.lines = harness.Lines(self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        finally:
            self.process.kill()

    def wait(self, timeout=60):
        out, err = self.process.communicate(timeout=timeout)
        return harness.Result(self.process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def run_json(*command, mode="exact", timeout=60, env=None, args=()):
    """(reports of processes, summary, status) of a command; the reports go to standard error, so the command must not write there."""
    with Run("--mode", mode, "--format", "json", *args, "--", *command, env=env) as run:
        result = run.wait(timeout)
    rows = [json.loads(line) for line in result.stderr.splitlines()]
    assert rows and rows[-1]["schema"] == "leaksnoop.run/1", result
    assert all(row["schema"] == "leaksnoop.report/1" for row in rows[:-1]), result
    return rows[:-1], rows[-1], result


@pytest.fixture(scope="module")
def gates(machine):
    """Leak gates take half a minute to be sure: they run beside the other tests. Asked for by the last ones."""
    runs = {}
    for name, env in {"leaking": {"GATE_LEAK": "1"}, "clean": {}, "failing": {"GATE_FAIL": "9"}}.items():
        env = {**env, "GATE_SECONDS": str(GATE_SECONDS)}
        runs[name] = Run("--fail-on-leak", "--format", "json", "--", *PYTEST, env=env)
    yield runs
    for run in runs.values():
        run.__exit__()


@pytest.fixture(autouse=True)
def started_early(gates):
    pass


# ---- the command is what it would be without ----

@pytest.mark.parametrize("status", [0, 7, 255])
def test_status(status):
    assert run_leaksnoop("run", "--", "sh", "-c", "exit %d" % status).status == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_killed(number):
    """By the signal that killed the command, as strace does; a shell calls that 128 + N."""
    command = [str(BINARY), "run", "--", "sh", "-c", "kill -%d $$" % number]
    assert run_leaksnoop(*command[1:]).status == -number
    shell = subprocess.run(["sh", "-c", '"$@"; echo "status $?"', "sh", *command], capture_output=True, text=True)
    assert "status %d\n" % (128 + number) in shell.stdout


def test_not_found_and_not_executable(tmp_path):
    check_refusal(run_leaksnoop("run", "--", "/nonexistent/program"), "/nonexistent/program", status=127, hint=False)
    check_refusal(run_leaksnoop("run", "--", tmp_path), status=126, hint=False)


def test_no_command():
    check_refusal(run_leaksnoop("run"), "COMMAND", status=2)


def test_gate_needs_verdicts():
    check_refusal(run_leaksnoop("run", "--fail-on-leak", "--mode", "exact", "--", "true"), "sampled", status=2)


def test_no_permission(tmp_path):
    result = harness.as_nobody(tmp_path, "run", "--", "echo", "did run")
    check_refusal(result, "permission")


def test_options_of_the_command_are_its_own():
    result = run_leaksnoop("run", "echo", "--mode", "-n", "--", "x")
    assert result.status == 0 and result.stdout == "--mode -n -- x\n"


def test_no_python():
    result = run_leaksnoop("run", "--", "true")
    assert result.status == 0 and result.stdout == ""
    assert result.stderr == "leaksnoop: no Python among the 1 program that ran\n"


def test_streams(python):
    data = bytes(range(256)) * 1000
    code = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d[::-1])"
    done = subprocess.run([str(BINARY), "run", "--mode", "exact", "--", *python.command, "-c", code], input=data, capture_output=True)
    assert done.returncode == 0 and done.stdout == data[::-1]
    assert b"Python process: 1 reported" in done.stderr


def test_descriptors_and_signals_as_they_were():
    """What the caller handed over is there, and nothing of ours; nothing is blocked or ignored that was not."""
    code = "ls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> \\(.*\\)/\\1/p' | sort -n | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status"
    command = ["sh", "-c", code]
    read, write = os.pipe()
    try:
        plain = subprocess.run(command, capture_output=True, text=True, pass_fds=[read], stdin=subprocess.DEVNULL)
        traced = subprocess.run([str(BINARY), "run", "--", *command], capture_output=True, text=True, pass_fds=[read], stdin=subprocess.DEVNULL)
    finally:
        os.close(read)
        os.close(write)
    assert plain.stdout == traced.stdout and str(read) in plain.stdout.split("\n")[0].split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_signals_are_passed_on(number):
    code = "trap 'echo got; exit 9' %d; echo ready; while :; do sleep 0.05; done" % number
    with Run("--", "sh", "-c", code) as run:
        assert run.lines.wait("ready", 20)
        run.process.send_signal(number)
        assert run.lines.wait("got", 20)
        assert run.wait().status == 9


def on_terminal(*command):
    """Runs in a session of its own, on a terminal, in the foreground. (pid, master)"""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(str(BINARY), [str(BINARY), "run", "--", *command])
    return pid, master


def read_until(master, word, timeout=20):
    text, deadline = b"", time.monotonic() + timeout
    while word not in text and time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            text += os.read(master, 4096)
    assert word in text
    return text


def test_interrupt_on_a_terminal():
    """Once to the command, whose way to end is ours."""
    pid, master = on_terminal("sh", "-c", "trap 'n=$((n+1)); echo got $n' INT; echo ready; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 3$n")
    read_until(master, b"ready")
    os.write(master, b"\x03")
    read_until(master, b"got 1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 31
    os.close(master)


def test_interrupt_kills():
    pid, master = on_terminal("sh", "-c", "echo ready; exec sleep 100")
    read_until(master, b"ready")
    time.sleep(0.2)
    os.write(master, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    os.close(master)


def test_job_control():
    """Stopped and told to go on, as a shell does with a job."""
    with Run("--", "sh", "-c", "echo ready; sleep 0.5; echo awake; exit 4", process_group=0) if sys.version_info >= (3, 11) else \
            Run("--", "sh", "-c", "echo ready; sleep 0.5; echo awake; exit 4", preexec_fn=os.setpgrp) as run:
        assert run.lines.wait("ready", 20)
        os.killpg(run.pid, signal.SIGSTOP)
        run.lines.read_for(1.5)
        assert "awake" not in run.lines.seen
        os.killpg(run.pid, signal.SIGCONT)
        assert run.lines.wait("awake", 20)
        assert run.wait().status == 4


def test_other_users_and_setuid(tmp_path):
    """Root's tracing takes no rights from a program that a user runs."""
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    program = tmp_path / "id"
    shutil.copy(shutil.which("id"), program)
    program.chmod(0o4755)
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("needs a /tmp that allows setuid programs")
    result = run_leaksnoop("run", "--", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", program)
    assert result.status == 0 and "(nobody)" in result.stdout and "euid=0(root)" in result.stdout, result


# ---- Pythons ----

LEAKS = "kept = []\nfor i in range(3000): kept.append(b'%0700d' % i)\n"


def test_from_birth(some_interpreter):
    """Every block that the interpreter has was seen allocated."""
    code = "import sys, os; os.write(1, b'%d' % sys.getallocatedblocks())"
    reports, summary, result = run_json(*some_interpreter.command, "-S", "-c", LEAKS + code, args=["--top", 0, "--include", "*"])
    assert (summary["pythons"], summary["reported"], summary["exit_status"]) == (1, 1, 0)
    report, = reports
    blocks = int(result.stdout)
    live = sum(f["live_blocks"] for f in report["findings"])
    assert report["coverage"]["ratio"] > 0.999
    assert not any("mimalloc" in note for note in report["coverage"]["notes"])
    assert 0.97 * blocks < live < 1.2 * blocks, (live, blocks)
    first = next(f for f in report["findings"] if f["traceback"] and f["traceback"][0]["file"] == "<string>")
    assert first["traceback"][0]["line"] == 2 and first["live_blocks"] >= 3000


def test_passive_and_sampled(python):
    for mode in ("passive", "sampled"):
        reports, summary, _ = run_json(*python.command, "-c", LEAKS + "import time; time.sleep(1.5)", mode=mode)
        assert summary["reported"] == 1 and reports[0]["window"]["mode"] == mode


def test_shell(python):
    word = " ".join(python.command)
    reports, summary, result = run_json("sh", "-c", "%s -c 'import time; time.sleep(1.2)'; echo between; %s -c 'raise SystemExit(5)'" % (word, word))
    assert result.status == 5 and result.stdout == "between\n"
    assert summary["pythons"] == 2 and summary["exit_status"] == 5
    assert summary["reported"] + summary["quiet"] == 2 and summary["reported"] == len(reports) >= 1


def test_env(python):
    code = "import os; print(os.environ['GREETING'])"
    reports, _, result = run_json("env", "GREETING=hello", *python.command, "-c", code)
    assert result.stdout == "hello\n" and len(reports) == 1


def test_virtual_environment(python, tmp_path):
    subprocess.run([*python.command, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    command = tmp_path / "venv" / "bin" / "python"
    reports, _, result = run_json(command, "-c", "import sys; print(sys.prefix)")
    assert result.stdout.strip() == str(tmp_path / "venv")
    assert reports[0]["target"]["cmdline"][0] == str(command)


def test_short_ones_are_summed_up(python):
    reports, summary, _ = run_json("sh", "-c", 'for i in 1 2 3 4 5; do "$@" -S -c pass; done', "sh", *python.command, mode="sampled")
    assert reports == [] and summary["pythons"] == summary["quiet"] == 5
    assert summary["programs"] == 6


def test_threads_and_children(python):
    """Threads come and go while processes are made by fork, vfork and exec."""
    code = """
import os, subprocess, threading
def work(n):
    for i in range(20):
        t = threading.Thread(target=len, args=("",)); t.start(); t.join()
    assert subprocess.run(["sh", "-c", "exit %d" % n]).returncode == n
    pid = os.fork()
    if not pid:
        os._exit(n)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == n
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print("right")
"""
    _, summary, result = run_json(*python.command, "-c", code)
    assert result.status == 0 and result.stdout == "right\n"
    assert summary["programs"] == 9


def test_exec(python):
    """One process, one program after the other."""
    code = "import os, sys, time; n = int(sys.argv[1]); time.sleep(0.1); n and os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], str(n - 1), " \
           "sys.argv[2]]); print('last')"
    _, summary, result = run_json(*python.command, "-c", code, 5, code)
    assert result.status == 0 and result.stdout == "last\n"
    assert summary["pythons"] == summary["programs"] == 6


def test_prefork(python):
    """Each worker has a report of its own."""
    with Run("--mode", "exact", "--format", "json", "--", *python.command, str(TARGETS / "prefork.py"), "--children", 3) as run:
        assert run.lines.wait("ready", 30)
        children = {int(line.split()[1]) for line in run.lines.seen if line.startswith("child")}
        time.sleep(3)
        run.process.send_signal(signal.SIGTERM)
        result = run.wait()
    rows = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.status == 0, result
    reports = {row["target"]["pid"]: row for row in rows[:-1]}
    assert children <= set(reports)
    for child in children:
        first = reports[child]["findings"][0]
        assert first["traceback"][0]["function"] == "serve", first


def test_killed_tracer(python, tmp_path):
    """kill -9 of leaksnoop: the command goes on to its end, with its threads and children."""
    done = tmp_path / "done"
    code = """
import os, subprocess, sys, threading, time
sys.stdout.write("ready\\n"); sys.stdout.flush()
end = time.monotonic() + 2
def work():
    while time.monotonic() < end:
        [bytes(n) for n in range(1000)]
        time.sleep(0.001)
threads = [threading.Thread(target=work) for n in range(3)]
[t.start() for t in threads]
while time.monotonic() < end:
    assert subprocess.run(["true"]).returncode == 0
    if not os.fork():
        os._exit(0)
    os.wait()
[t.join() for t in threads]
import atexit
atexit.register(open(sys.argv[1], "w").write, "right")
"""
    for mode in ("exact", "sampled"):
        with Run("--mode", mode, "--", *python.command, "-c", code, done) as run:
            assert run.lines.wait("ready", 30)
            time.sleep(1 if mode == "sampled" else 0.3)
            run.process.kill()
            run.process.wait()
            deadline = time.monotonic() + 30
            while not (done.exists() and done.read_text() == "right"):
                assert time.monotonic() < deadline, "the command did not get to its end"
                time.sleep(0.05)
        done.unlink()


def test_duration(python):
    """Tracing ends, the command does not."""
    reports, summary, result = run_json(*python.command, "-c", "import time; time.sleep(2); print('end')", args=["--duration", 1])
    assert result.stdout == "end\n" and len(reports) == 1
    assert reports[0]["window"]["seconds"] < 1.5 and summary["exit_status"] == 0


def test_left_behind(python):
    """Ends with the command; who is left is reported, let go and unharmed."""
    command = 'exec "$@" > /dev/null 2>&1 &'
    reports, summary, result = run_json("sh", "-c", command + " sleep 0.7; echo $!", "sh", *python.command, "-c", "import time; time.sleep(100)")
    pid = int(result.stdout)
    try:
        assert result.status == 0 and [r["target"]["pid"] for r in reports] in ([pid], [])
        status = pathlib.Path("/proc/%d/status" % pid).read_text()
        assert "TracerPid:\t0" in status and re.search(r"State:\t[SR]", status)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_interval_and_output(python, tmp_path):
    file = tmp_path / "report"
    code = "import sys, time; sys.stderr.write('mine'); time.sleep(2.3)"
    with Run("--mode", "exact", "--format", "json", "--interval", 1, "--output", file, "--", *python.command, "-c", code) as run:
        result = run.wait()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert result.status == 0 and result.stderr == "mine"
    assert [row["schema"] for row in rows] == ["leaksnoop.report/1"] * 3 + ["leaksnoop.run/1"]


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_traced_already():
    """Who wants to trace inside is refused by the kernel, and says so itself."""
    result = run_leaksnoop("run", "--", "strace", "-o", "/dev/null", "true")
    assert result.status != 0 and "Operation not permitted" in result.stderr


def test_old_python(old_interpreter):
    with Run("--fail-on-leak", "--", *old_interpreter.command, "-c", "print(1)") as run:
        result = run.wait()
    assert result.status == 1 and result.stdout == "1\n"
    assert "could not be traced" in result.stderr and "not supported" in result.stderr


# ---- the gate ----

def gate(gates, name):
    result = gates[name].wait(120)
    rows = [json.loads(line) for line in result.stderr.splitlines()]
    assert "10 passed" in result.stdout or "1 failed, 9 passed" in result.stdout, result
    return result, rows[-2], rows[-1]


def test_gate_leaking(gates):
    result, report, summary = gate(gates, "leaking")
    assert report["verdict"]["kind"] == "leak", report["verdict"]
    assert result.status == 3 and summary["leaks"] == 1
    assert report["findings"][0]["traceback"][0]["file"].endswith("gate.py")


def test_gate_clean(gates):
    result, report, summary = gate(gates, "clean")
    assert report["verdict"]["kind"] != "leak", report["verdict"]
    assert result.status == 0 and summary["leaks"] == 0


def test_gate_failing(gates):
    result, _, _ = gate(gates, "failing")
    assert result.status == 1
