# SPDX-License-Identifier: MIT
"""What the end-to-end tests stand on: interpreters at hand, target programs under them, the tracer as a black box.

A Target always ends with its test, by PID; so does a Trace. Programs that run
in a chroot are copied into it for the session (Chroots), since that is where
their interpreter looks for them.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGETS = ROOT / "tests" / "targets"
BINARY = pathlib.Path(os.environ.get("LEAKSNOOP", ROOT / "build" / "leaksnoop"))
CI = bool(os.environ.get("CI"))
FULL = os.environ.get("LEAKSNOOP_FULL") == "1"
FAULTS = int(os.environ.get("LEAKSNOOP_FAULTS") or (100 if FULL else 10))

# Numbers of the system calls a tracer at work sleeps in (x86-64): poll, epoll_wait, ppoll, epoll_pwait, epoll_pwait2.
WAITING = {"7", "232", "271", "281", "441"}


class Interpreter:
    """A Python to run targets with: its label, the words of its command, the root directory it sees."""

    def __init__(self, label, command):
        self.label = label
        self.command = command
        self.root = command[1] if command[0] == "chroot" else "/"

    @property
    def version(self):
        return tuple(int(part) for part in self.label.split("-")[1].split("."))

    @property
    def is_plain(self):
        return self.label.startswith("plain")

    def __repr__(self):
        return self.label


def interpreters(kind="supported"):
    """What scripts/pythons.sh finds; test.sh hands its output over in the environment."""
    name = {"supported": "LEAKSNOOP_PYTHONS", "unsupported": "LEAKSNOOP_OLD_PYTHONS"}[kind]
    text = os.environ.get(name)
    if text is None:
        script = [str(ROOT / "scripts/pythons.sh"), kind]
        text = subprocess.run(script, stdout=subprocess.PIPE, check=True, text=True).stdout
    pairs = (word.split("=", 1) for word in text.split())
    return [Interpreter(label, command.split(",")) for label, command in pairs]


class Chroots:
    """Copies of tests/targets, one in each chroot that is used, gone at the end of the session."""

    def __init__(self):
        self.copies = {}

    def place(self, root):
        """(directory as the target sees it, the same from outside)"""
        if root not in self.copies:
            inside = "/tmp/leaksnoop-%d" % os.getpid()
            outside = pathlib.Path(root + inside) if root != "/" else pathlib.Path(tempfile.mkdtemp(prefix="leaksnoop-"))
            if root != "/":
                shutil.copytree(TARGETS, outside, ignore=shutil.ignore_patterns("__pycache__"))
            self.copies[root] = (str(outside) if root == "/" else inside, outside)
        return self.copies[root]

    def close(self):
        for _, outside in self.copies.values():
            shutil.rmtree(outside, ignore_errors=True)


chroots = Chroots()


class Lines:
    """Lines from a pipe, each waited for with a deadline; remembers all of them."""

    def __init__(self, pipe):
        self.fd = pipe.fileno()
        self.rest = b""
        self.seen = []
        self.eof = False

    def _more(self, timeout):
        if not select.select([self.fd], [], [], max(0, timeout))[0]:
            return False
        data = os.read(self.fd, 65536)
        self.eof = not data
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.seen += [line.decode("utf-8", "replace") for line in lines]
        return True

    def read_for(self, seconds):
        """Takes what comes within this time."""
        deadline = time.monotonic() + seconds
        while not self.eof and self._more(deadline - time.monotonic()):
            pass

    def wait(self, start, timeout, since=0):
        """The first line after `since` that starts so. None when the writer has ended without."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.seen[since:]:
                if line.startswith(start):
                    return line
            if self.eof:
                return None
            if not self._more(deadline - time.monotonic()):
                raise AssertionError("no line %r within %g s; got %r" % (start, timeout, self.seen[-5:]))


class Target:
    """A target program under an interpreter. Use as a context: it is ready inside, and killed at the end."""

    def __init__(self, interpreter, program, *args, env=None, prefix=(), ready="ready", timeout=60):
        self.interpreter = interpreter
        inside, self.files = chroots.place(interpreter.root)
        self.inside = inside
        directory = str(TARGETS) if interpreter.root == "/" else inside
        self.program = os.path.join(directory, program)
        command = [*prefix, *interpreter.command, self.program, *map(str, args)]
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        env=clean_environment(env))
        self.pid = self.process.pid
        self.lines = Lines(self.process.stdout)
        try:
            if ready and self.lines.wait(ready, timeout) is None:
                raise AssertionError("%s ended with %s: %s" % (program, self.process.wait(), self.stderr()))
        except BaseException:
            self.close()
            raise

    def path(self, name):
        """(a file's path as the target sees it, the same from outside), unique to this target."""
        name = "%d-%s" % (self.pid, name) if hasattr(self, "pid") else name
        return os.path.join(self.inside, name), self.files / name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def go(self):
        self.signal(signal.SIGUSR1)

    def wait_done(self, timeout=120):
        assert self.lines.wait("done", timeout) is not None, "ended early: " + self.stderr()

    def signal(self, number):
        os.kill(self.pid, number)

    def answer(self, timeout):
        """Its "OK", asked for by a signal. One that comes between a thread's last look at the signals and its read() wakes nobody (CPython
        runs handlers in the main thread only): so it is asked again."""
        before, deadline = len(self.lines.seen), time.monotonic() + timeout
        while True:
            self.signal(signal.SIGUSR2)
            try:
                return self.lines.wait("OK ", min(5, timeout), since=before)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def check_unharmed(self, timeout=30):
        """It lives, answers with the right result, and has said nothing of its own accord on standard error."""
        assert self.process.poll() is None, "target ended with %s: %s" % (self.process.poll(), self.stderr())
        assert self.answer(timeout) is not None, "target died while it answered: " + self.stderr()
        assert not any("WRONG" in line for line in self.lines.seen), self.lines.seen
        assert self.stderr() == ""


def clean_environment(extra=None):
    """The environment without what would change an interpreter's behaviour behind a test's back."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env.update(extra or {})
    return env


def output_path(interpreter, name):
    """(path as the target sees it, the same from outside) of a file that does not exist yet."""
    inside, outside = chroots.place(interpreter.root)
    unique = "%08x-%s" % (random.getrandbits(32), name)
    return os.path.join(inside, unique), outside / unique


class Result:
    """What a finished leaksnoop said."""

    def __init__(self, status, stdout, stderr):
        self.status, self.stdout, self.stderr = status, stdout, stderr

    @property
    def report(self):
        assert self.status == 0, "status %d: %s" % (self.status, self.stderr)
        return json.loads(self.stdout)

    @property
    def reports(self):
        assert self.status == 0, "status %d: %s" % (self.status, self.stderr)
        return [json.loads(line) for line in self.stdout.splitlines()]

    def __repr__(self):
        return "status %s\n%s\n%s" % (self.status, self.stdout[-2000:], self.stderr[-2000:])


def run_leaksnoop(*args, timeout=60, **popen):
    """Runs leaksnoop to its end."""
    done = subprocess.run([str(BINARY), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          stdin=subprocess.DEVNULL, **popen)
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


class Trace:
    """A leaksnoop attach at work, in exact mode unless --mode is among the arguments. Use as a context: attached inside (unless
    wait=False), killed at the end if it still runs."""

    def __init__(self, pid, *args, wait=True, timeout=30):
        self.stdout, self.stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        mode = [] if "--mode" in args else ["--mode", "exact"]
        command = [str(BINARY), "attach", str(pid), *mode, *map(str, args)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self.stderr)
        self.pid = self.process.pid
        try:
            if wait:
                self.wait_attached(timeout)
        except BaseException:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.stdout.close()
        self.stderr.close()

    def wait_attached(self, timeout=30):
        """Until it waits for events with its probes in place: it sleeps in a poll while it holds perf events or BPF links."""
        deadline = time.monotonic() + timeout
        while not (self._holds_probes() and self._sleeps_in_poll()):
            assert self.process.poll() is None, "the tracer ended: %r" % self.result()
            assert time.monotonic() < deadline, "not attached within %g s" % timeout
            time.sleep(0.005)

    def _sleeps_in_poll(self):
        try:
            with open("/proc/%d/syscall" % self.pid) as file:
                return file.read().split()[0] in WAITING
        except (OSError, IndexError):
            return False

    def _holds_probes(self):
        directory = "/proc/%d/fd" % self.pid
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    link = os.readlink(os.path.join(directory, name))
                    if "perf_event" in link or "bpf_link" in link or "bpf-link" in link:
                        return True
        return False

    def interrupt(self, number=signal.SIGINT, timeout=60):
        """Asks it to stop, as Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout=60):
        self.process.wait(timeout)
        return self.result()

    def kill(self):
        """kill -9."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def result(self):
        return Result(self.process.poll(), self._text(self.stdout), self._text(self.stderr))

    @staticmethod
    def _text(file):
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def trace_until_done(target, *args, timeout=120):
    """Attaches, lets the target do its work, stops the tracer when it is done; the report."""
    with Trace(target.pid, *args) as trace:
        target.go()
        target.wait_done(timeout)
        return trace.interrupt().report


def as_nobody(tmp_path, *args):
    """leaksnoop from a place that nobody can reach, run by nobody."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent != pathlib.Path("/") and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    binary = shutil.copy(BINARY, tmp_path / "leaksnoop")
    done = subprocess.run([binary, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, user="nobody",
                          group="nogroup", extra_groups=[], cwd="/", timeout=30)
    return Result(done.returncode, done.stdout, done.stderr)


def check_refusal(result, *words, status=1, hint=True):
    """An error as it should be: one line that has the words (regular expressions), then perhaps a hint, and nothing else."""
    assert result.status == status, result
    assert result.stdout == "", result
    first, *rest = result.stderr.splitlines()
    assert first.startswith("error: "), result
    assert bool(rest and rest[0].startswith("hint: ")) or not hint, result
    assert len(rest) <= 1, "once, not twice: %r" % result
    for word in words:
        assert re.search(word, first), "%r is not in %r" % (word, first)
    assert "\033" not in result.stderr


def doctor(pid, *args):
    """The process part of what doctor says, as it says it to machines."""
    return run_leaksnoop("doctor", pid, "--format", "json", *args).report["process"]


def image_base(pid, address):
    """Where the file that is mapped at an address of a process begins."""
    with open("/proc/%d/maps" % pid) as file:
        rows = [line.split(maxsplit=5) for line in file]
    ranges = [(*(int(part, 16) for part in row[0].split("-")), row[5] if len(row) > 5 else "") for row in rows]
    paths = [path for start, end, path in ranges if start <= address < end]
    # What follows a library's data without a name is its .bss.
    name = (paths and paths[0]) or next(path for start, end, path in reversed(ranges) if path and end <= address)
    return min(start for start, _, path in ranges if path == name)


class Slots:
    """The allocator slots of a process, read by ourselves from its memory.

    doctor tells once an interpreter where they are and what belongs into them (it takes seconds: it measures the kernel);
    after that, both are known relative to the image.
    """

    known = {}

    @classmethod
    def of(cls, target):
        label = target.interpreter.label
        if label not in cls.known:
            process = doctor(target.pid)
            base = image_base(target.pid, int(process["image"]["runtime"], 16))
            rows = [(int(s["slot"], 16) - base, s["code"] and int(s["code"], 16) - base) for s in process["slots"]]
            cls.known[label] = rows, process["image"]
            assert not any(slot["armed"] for slot in process["slots"])
        return cls(target.pid, *cls.known[label])

    def __init__(self, pid, slots, image):
        self.pid = pid
        with open("/proc/%d/maps" % pid) as file:
            name = os.path.basename(image["path"])
            base = min(int(line.split("-")[0], 16) for line in file if line.rstrip().endswith("/" + name))
        # The reference tracer's slot has no function of its own: it is empty.
        self.slots = [(base + slot, base + code if code else 0) for slot, code in slots]

    def armed(self, pid=None):
        """Addresses of the slots that hold something else than their function; of a fork's child with its pid."""
        with open("/proc/%d/mem" % (pid or self.pid), "rb", buffering=0) as memory:
            return [hex(slot) for slot, code in self.slots if self._read(memory, slot) != code]

    @staticmethod
    def _read(memory, address):
        memory.seek(address)
        return int.from_bytes(memory.read(8), "little")


def repeats(share=1):
    """Numbers of the repetitions of a fault; a test that has it in several variants takes its share, in a full run all."""
    return range(FAULTS if FULL else -(-FAULTS // share))


def keep_lines(program, mark="LEAK"):
    """Numbers of the lines that carry a LEAK comment (or another mark), by the text after it."""
    found = {}
    with open(TARGETS / program, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if "# " + mark in line:
                found[line.split("# " + mark, 1)[1].strip(" :\n")] = number
    return found


def python_blocks(report):
    """(base name of the file, line) -> [blocks, bytes] of live Python blocks; mappings, which hold them, are not counted again."""
    totals = {}
    for finding in report["findings"]:
        if finding["kind"] == "python":
            total = totals.setdefault(place_of(finding), [0, 0])
            total[0] += finding["live_blocks"]
            total[1] += finding["live_bytes"]
    return totals


def place_of(finding):
    """(base name of the file, line) of a finding's innermost Python frame, or None."""
    for frame in finding["traceback"]:
        if frame["language"] == "python":
            return os.path.basename(frame["file"] or ""), frame["line"]
    return None


def in_random_order_of_time(limit, seed):
    """A moment between 0 and `limit` seconds, the same for the same seed."""
    return random.Random(seed).random() * limit
