# SPDX-License-Identifier: MIT
"""What a person sees: a status line while it runs, colours, and neither where they do not belong."""

import os
import pty
import re
import signal
import subprocess
import time

import pytest

import harness


def read_all(fd, seconds):
    """What comes out of a terminal within this time, or until its other end is closed."""
    found = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        found += data
    return found.decode("utf-8", "replace")


def attach_on_terminal(pid, env=None):
    """(text of the terminal, status) of an attach of 2.5 s whose standard output and error are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([str(harness.BINARY), "attach", str(pid), "--mode", "exact", "--duration", "2.5"], stdout=slave, stderr=slave,
                               env={**os.environ, "TERM": "xterm", **(env or {})})
    os.close(slave)
    text = read_all(master, 20)
    os.close(master)
    return text, process.wait(20)


@pytest.fixture
def leaky(python):
    with harness.Target(python, "leaky_service.py") as target:
        yield target


def test_status_line_and_colours(leaky):
    text, status = attach_on_terminal(leaky.pid)
    assert status == 0
    line = re.search(r"\r\x1b\[K([^\r\n]*events/s[^\r\n]*)", text)
    assert line and re.search(r"coverage \S+", line.group(1)) and "RSS" in line.group(1), text
    # The last thing done to the status line is to take it away; then comes the report, coloured.
    report = text[text.rindex("\r\x1b[K") + 4:]
    assert report.lstrip("\r\n\x1b[0123456789;m").startswith("PID %d" % leaky.pid), report[:200]
    assert "\x1b[" in report and "remember" in report


def test_no_color(leaky):
    text, status = attach_on_terminal(leaky.pid, {"NO_COLOR": "1"})
    assert status == 0
    assert "\x1b[" not in text[text.rindex("\r\x1b[K") + 4:]


def test_no_status_line_without_a_terminal(leaky):
    result = harness.run_leaksnoop("attach", leaky.pid, "--mode", "exact", "--duration", 1.5)
    assert result.status == 0
    assert result.stderr == ""
    assert "\x1b" not in result.stdout and "\r" not in result.stdout


def test_a_reader_that_leaves_does_not_kill_an_armed_tracer(leaky):
    """attach | head: the write fails, the slots are restored all the same."""
    slots = harness.Slots.of(leaky)
    read, write = os.pipe()
    process = subprocess.Popen([str(harness.BINARY), "attach", str(leaky.pid), "--mode", "exact", "--interval", "0.3"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    assert process.wait(20) == 1
    assert b"error:" in process.stderr.read()
    process.stderr.close()
    assert slots.armed() == []
    leaky.signal(signal.SIGCONT)
