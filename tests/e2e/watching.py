# SPDX-License-Identifier: MIT
"""A leaksnoop watch at work, for tests: its events, its history, its end."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import time

import harness

# In which a leak must be named: a quiet machine needs 40 to 60 s for 240 KB/s, 120 s for 80 KB/s.
FOUND_SECONDS = 300


class Watch:
    """leaksnoop watch --format json with quick settings, of the processes named only. Use as a context."""

    def __init__(self, history, *args, pids=(), prefix=()):
        self.history = str(history)
        self.errors = tempfile.TemporaryFile()
        command = [*prefix, str(harness.BINARY), "watch", "--format", "json", "--history", self.history, *map(str, args)]
        command += ["--interval", "1", "--settle", "0.5", "--host-budget", "20"]
        for pid in pids:
            command += ["--pid", str(pid)]
        assert pids or "--comm" in args or "--cgroup" in args or "--user" in args, "tests watch their own processes"
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors)
        self.pid = self.process.pid
        self.lines = harness.Lines(self.process.stdout)
        self.taken = 0
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def read_for(self, seconds):
        self.lines.read_for(seconds)
        self.events += [json.loads(line) for line in self.lines.seen[self.taken:]]
        self.taken = len(self.lines.seen)

    def wait(self, what, timeout):
        """The first event for which what(event) holds."""
        deadline, looked = time.monotonic() + timeout, 0
        while True:
            for event in self.events[looked:]:
                if what(event):
                    return event
            looked = len(self.events)
            assert not self.lines.eof, "watch ended with %s: %s" % (self.process.poll(), self.stderr())
            assert time.monotonic() < deadline, "no such event within %g s; %s; %s" % (timeout, self.summary(), self.stderr())
            self.read_for(0.2)

    def wait_kind(self, kind, pid, timeout, verdict=None):
        return self.wait(lambda e: e["kind"] == kind and e["target"]["pid"] == pid and (not verdict or e["verdict"] == verdict), timeout)

    def summary(self):
        return [(e["kind"], e["target"]["pid"], e["verdict"], e["growth_bytes_per_second"]) for e in self.events[-20:]]

    def end(self, number=signal.SIGTERM, timeout=30):
        """Asks it to stop; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        deadline = time.monotonic() + timeout
        while not self.lines.eof:
            assert time.monotonic() < deadline, "it does not end"
            self.read_for(0.5)
        return self.process.wait(timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()


def first_line(report):
    """(file name, line) of the first finding's innermost frame."""
    frame = report["findings"][0]["traceback"][0]
    return os.path.basename(frame["file"]), frame["line"]


def check_integrity(path):
    with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % path, uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def history(path, *args):
    """What leaksnoop history says of it."""
    return harness.run_leaksnoop("history", path, "--format", "json", *args).report
