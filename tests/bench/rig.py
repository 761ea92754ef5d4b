# SPDX-License-Identifier: MIT
"""What the benches of sampled mode stand on: child processes, interpreters, processor time, leaksnoop attached to one of them.

Every child is ended by its PID; an interpreter's copies of the services in a chroot go with the bench. What cannot run
raises Unavailable with the reason, for the driver to print.
"""

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LEAKSNOOP = os.environ.get("LEAKSNOOP", os.path.join(ROOT, "build", "leaksnoop"))

# System calls a tracer at work sleeps in (x86-64): poll, nanosleep, clock_nanosleep, epoll_wait, ppoll, epoll_pwait, epoll_pwait2.
WAITING = {"7", "35", "230", "232", "271", "281", "441"}


class Unavailable(Exception):
    """This machine cannot run it; the reason is the message."""


class Failed(Exception):
    """It should have run and did not: the bench ends."""


def processors():
    """(for services, for their clients); the same one if there is no other."""
    free = sorted(os.sched_getaffinity(0))
    return free[0], free[1 if len(free) > 1 else 0]


def environment():
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return env


class Child:
    """A process that takes commands and answers in JSON, a line each; its errors are kept."""

    def __init__(self, command, cpu):
        self.errors = tempfile.TemporaryFile()
        self.rest = b""
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment(),
                                        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))

    def tell(self, *words):
        try:
            self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self.last_words()) from None

    def answer(self, timeout):
        """The next line, decoded."""
        deadline = time.monotonic() + timeout
        fd = self.process.stdout.fileno()
        while b"\n" not in self.rest:
            if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Failed("no answer within %g s from %s" % (timeout, self.process.args))
            data = os.read(fd, 65536)
            if not data:
                raise Failed(self.last_words())
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def last_words(self):
        """The last line it wrote on standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it ended with status %s" % self.process.poll()

    def close(self):
        """The end of its input asks it to end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def own_seconds(pid):
    """Processor time of a process from its threads' schedstat, in nanoseconds' steps; of utime and stime where there is none."""
    total = 0
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open("/proc/%d/task/%s/schedstat" % (pid, task)) as file:
                total += int(file.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        raise Failed("process %d has ended" % pid) from None
    if total:
        return total / 1e9
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Python:
    """An interpreter by the words of its command, joined by commas: PATH, or chroot,ROOT,PATH."""

    def __init__(self, words):
        self.words = words.split(",")
        self.root = self.words[1] if self.words[0] == "chroot" else None
        self.version = self.ask("import platform; print(platform.python_version())")
        self.copy = None

    def ask(self, program, command=None):
        done = subprocess.run([*(command or self.words), "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment())
        if done.returncode:
            raise Failed("%s: %s" % (",".join(self.words), (done.stderr.strip().splitlines() or ["no answer"])[-1]))
        return done.stdout.strip()

    def has(self, module):
        return self.ask("import importlib.util as u; print(bool(u.find_spec(%r)))" % module) == "True"

    def place(self, folder):
        """Where the interpreter finds a folder of this one: in a chroot, a copy."""
        if not self.root:
            return folder
        if not self.copy:
            self.copy = tempfile.mkdtemp(prefix="leaksnoop-bench-", dir=os.path.join(self.root, "tmp"))
            os.chmod(self.copy, 0o755)
            shutil.copytree(folder, os.path.join(self.copy, "files"), ignore=shutil.ignore_patterns("__pycache__"))
        return os.path.join("/", os.path.relpath(self.copy, self.root), "files")

    def close(self):
        if self.copy:
            shutil.rmtree(self.copy)

    def equip(self, packages):
        """Takes what is not there from PyPI into an environment in .cache; the interpreter stays the same program.

        Returns a dictionary package -> why it is missing.
        """
        if self.root:
            return {name: "not installed in the chroot" for name in packages if not self.has(name)}
        folder = os.path.join(ROOT, ".cache", "bench-" + hashlib.sha1(",".join(self.words).encode()).hexdigest()[:8])
        command = os.path.join(folder, "bin", "python")
        if not os.path.exists(command):
            done = self._quiet([*self.words, "-m", "venv", "--system-site-packages", folder])
            if done:
                shutil.rmtree(folder, ignore_errors=True)
                return {name: done for name in packages if not self.has(name)}
        self.words = [command]
        missing = {}
        for name in packages:
            if not self.has(name):
                why = self._quiet([command, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:", name])
                if why:
                    missing[name] = why
        return missing

    @staticmethod
    def _quiet(command):
        """None, or the last line of what went wrong."""
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
        return None if done.returncode == 0 else (done.stdout.strip().splitlines() or ["status %d" % done.returncode])[-1]


class Tracer:
    """leaksnoop attached to a process."""

    def __init__(self, pid, words):
        self.report_file = tempfile.NamedTemporaryFile(prefix="leaksnoop-bench-")
        self.errors = tempfile.TemporaryFile()
        command = [LEAKSNOOP, "attach", str(pid), "--format", "json", "--output", self.report_file.name, *words]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)
        self.wait_attached(30)

    def wait_attached(self, timeout):
        """Until it waits for events with its probes in place."""
        deadline = time.monotonic() + timeout
        while not (self._holds_probes() and self._sleeps()):
            if self.process.poll() is not None:
                raise Failed("leaksnoop ended: " + self._said())
            if time.monotonic() > deadline:
                self.process.kill()
                raise Failed("leaksnoop was not attached within %g s" % timeout)
            time.sleep(0.01)

    def _sleeps(self):
        try:
            with open("/proc/%d/syscall" % self.process.pid) as file:
                return file.read().split()[0] in WAITING
        except (OSError, IndexError):
            return False

    def _holds_probes(self):
        directory = "/proc/%d/fd" % self.process.pid
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    link = os.readlink(os.path.join(directory, name))
                    if "perf_event" in link or "bpf_link" in link or "bpf-link" in link:
                        return True
        return False

    def _said(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace").strip()

    def seconds(self):
        return own_seconds(self.process.pid)

    def stop(self):
        """Detaches; its last report."""
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("leaksnoop did not end within 30 s") from None
        if status:
            raise Failed("leaksnoop ended with status %d: %s" % (status, self._said()))
        self.report_file.seek(0)
        return self._last_report(self.report_file.read().decode())

    def _last_report(self, text):
        """One report may take several lines, several take one each."""
        report, rest = None, text.lstrip()
        while rest:
            report, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:].lstrip()
        if report is None:
            raise Failed("leaksnoop wrote no report: " + self._said())
        return report

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def attached(pid, words):
    """A Tracer inside; the caller stops it for its report, else it is killed."""
    tracer = Tracer(pid, words)
    try:
        yield tracer
    finally:
        tracer.kill()
