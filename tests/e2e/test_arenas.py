# SPDX-License-Identifier: MIT
"""The arenas verb against what the program counts itself, as JSON, as text, as a drawing, and where there are no arenas."""

import ctypes
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import time

import pytest

import harness
from test_refusals import check_refusal

TOTALS = {"arenas", "arenas_highwater", "arena_bytes", "live_blocks", "live_bytes", "free_in_used_pools_bytes", "free_pools_bytes",
          "uncarved_bytes", "overhead_bytes", "fragmentation", "arenas_if_packed"}
CLASS = {"size", "pools", "live_blocks", "free_blocks"}
ARENA = {"address", "interpreter", "pools_used", "pools_free", "pools_uncarved", "live_blocks", "live_bytes", "live_ratio", "pinned_by"}
PIN = {"size", "type", "count", "traceback"}


class Truth:
    """What sys._debugmallocstats() printed."""

    def __init__(self, text):
        numbers = re.findall(r"^# (.+?) += +([\d,]+)$", text, re.M)
        self.values = {key: int(value.replace(",", "")) for key, value in numbers}
        rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", text, re.M)
        self.classes = {int(row[1]): tuple(map(int, row[2:])) for row in rows}
        self.unused_pools = int(re.search(r"^(\d+) unused pools", text, re.M).group(1))


def arenas(pid, *args):
    return harness.run_leaksnoop("arenas", pid, "--format", "json", *args).report


def told(target):
    target.go()
    target.wait_done()
    time.sleep(0.05)
    return Truth(target.stderr())


def check_shape(report):
    assert report["schema"] == "leaksnoop.arenas/1"
    assert set(report["totals"]) >= TOTALS
    assert all(set(row) >= CLASS for row in report["size_classes"])
    assert all(set(row) >= ARENA for row in report["arenas"])
    assert all(set(pin) >= PIN and pin["traceback"] is None for row in report["arenas"] for pin in row["pinned_by"])
    assert all(re.fullmatch("0x[0-9a-f]+", row["address"]) for row in report["arenas"])
    totals = report["totals"]
    parts = ("live_bytes", "free_in_used_pools_bytes", "free_pools_bytes", "uncarved_bytes", "overhead_bytes", "refused_bytes")
    assert sum(totals[part] for part in parts) == totals["arena_bytes"]
    assert 0 <= totals["fragmentation"] <= 1 and totals["arenas_if_packed"] <= totals["arenas"]


def test_counts_are_the_programs_own(interpreter):
    with harness.Target(interpreter, "fragmented.py") as target:
        truth = told(target)
        report = arenas(target.pid)
        check_shape(report)
        totals = report["totals"]
        assert totals["arenas"] == truth.values["arenas allocated current"] == len(report["arenas"])
        assert totals["arenas_highwater"] in (truth.values["arenas highwater mark"], None)
        assert totals["live_bytes"] == truth.values["bytes in allocated blocks"]
        assert totals["free_in_used_pools_bytes"] == truth.values["bytes in available blocks"]
        assert totals["pools_free"] + totals["pools_uncarved"] == truth.unused_pools
        assert {c["size"]: (c["pools"], c["live_blocks"], c["free_blocks"]) for c in report["size_classes"] if c["pools"]} == truth.classes
        assert report["quality"]["refused"] == report["quality"]["unsure"] == report["quality"]["retries"] == 0
        assert report["quality"]["frozen_seconds"] is None
        frozen = arenas(target.pid, "--freeze")
        assert frozen["quality"]["frozen_seconds"] > 0
        assert all(frozen[part] == report[part] for part in ("target", "totals", "size_classes", "arenas"))
        assert target.process.poll() is None


def test_what_pins_is_named(some_interpreter):
    with harness.Target(some_interpreter, "fragmented.py") as target:
        kept = int(target.lines.wait("kept", 0).split()[1])
        report = arenas(target.pid)
        totals = report["totals"]
        pinned = [row for row in report["arenas"] if row["returnable"]]
        assert len(pinned) == totals["arenas_returnable"] > totals["arenas"] / 2
        assert totals["fragmentation"] > 0.5 and totals["arenas_if_packed"] <= totals["arenas"] / 2
        named = sum(pin["count"] for row in pinned for pin in row["pinned_by"] if pin["type"] == "__main__.Session")
        # The rest of them sits in arenas with other things, that of the interpreter's start above all.
        assert kept * 0.6 < named <= kept
        assert all(row["live_ratio"] < 0.25 for row in pinned)
        ratios = [row["live_ratio"] for row in report["arenas"]]
        assert ratios == sorted(ratios)
        assert arenas(target.pid, "--top", 2)["arenas"] == report["arenas"][:2]
        target.check_unharmed()


def on_terminal(pid, columns, *args, **env):
    """The lines that a terminal of so many columns gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLORTERM")}
    process = subprocess.Popen([str(harness.BINARY), "arenas", str(pid), *args], stdout=slave, stderr=slave,
                               env={**environment, "TERM": "xterm-256color", **env})
    os.close(slave)
    text = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(master)
    assert process.wait(20) == 0
    return text.decode("utf-8").replace("\r\n", "\n").splitlines()


def columns_of(line):
    return len(re.sub(r"\x1b\[[0-9;]*m", "", line))


def test_text_fits_the_terminal(python):
    with harness.Target(python, "fragmented.py", "--", "\033[2J", "x" * 300) as target:
        n = arenas(target.pid)["totals"]["arenas"]
        for columns in (80, 132):
            lines = on_terminal(target.pid, columns, "--map", "--top", "4")
            assert max(map(columns_of, lines)) <= columns, lines
            drawn = [line for line in lines if re.match("0x[0-9a-f]+ (\x1b|-)", line)]
            assert len(drawn) == n and all("\x1b[48;5;" in line and line.endswith("\x1b[0m") or "-" in line for line in drawn)
        # narrow: the drawing still fits
        lines = on_terminal(target.pid, 40, "--map", "--top", "1")
        assert all(columns_of(line) <= 40 for line in lines if line.startswith("0x") and "\x1b" in line)
        for env in ({"NO_COLOR": "1"}, {"TERM": "xterm"}, {"TERM": "dumb"}):
            assert "\x1b" not in "\n".join(on_terminal(target.pid, 80, "--map", **env))


def test_text_without_a_terminal(python):
    with harness.Target(python, "fragmented.py") as target:
        result = harness.run_leaksnoop("arenas", target.pid, "--map", "--top", 3)
        assert result.status == 0 and result.stderr == ""
        report = arenas(target.pid, "--map")
        assert "\x1b" not in result.stdout and "\u202e" not in result.stdout
        drawn = re.findall(r"^0x([0-9a-f]+) ([-.0-9#?]+)$", result.stdout, re.M)
        assert len(drawn) == report["totals"]["arenas"]
        fills = {int(row["address"], 16): row["pools"] for row in report["arenas"]}
        for address, cells in drawn:
            want = "".join("-" if fill == -1 else "." if fill == 0 else "#" if fill == 100 else str(fill // 10)
                           for fill in fills[int(address, 16)])
            assert cells == want
        assert len(re.findall(r"^0x\S+ .*__main__\.Session \(\d+\)", result.stdout, re.M)) == 3
        assert re.search(r"^emptiest arenas, 3 of \d+$", result.stdout, re.M)


def test_no_pymalloc(some_interpreter):
    with harness.Target(some_interpreter, "idle.py", env={"PYTHONMALLOC": "malloc"}) as target:
        check_refusal(harness.run_leaksnoop("arenas", target.pid), "does not use pymalloc")
        result = harness.run_leaksnoop("arenas", target.pid, "--format", "json")
        assert result.status == 1 and "its allocator is malloc" in json.loads(result.stderr)["hint"]
        target.check_unharmed()


def test_garbage_over_pool_headers(interpreter):
    """What makes no sense is counted and left out; the rest of the report stands."""
    with harness.Target(interpreter, "fragmented.py", "--garbage", 12) as target:
        garbage = int(target.lines.wait("garbage", 0).split()[1])
        assert garbage >= 8
        report = arenas(target.pid)
        check_shape(report)
        assert report["totals"]["pools_refused"] == report["quality"]["refused"] == garbage
        assert report["quality"]["retries"] > 0
        assert harness.run_leaksnoop("arenas", target.pid, "--map").status == 0


def test_freeze_beside_another_tracer(python):
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach, interrupt = 0x4206, 17, 0x4207
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    with harness.Target(python, "idle.py") as target:
        assert libc.ptrace(seize, target.pid, None, None) == 0
        check_refusal(harness.run_leaksnoop("arenas", target.pid, "--freeze"), "is traced by", str(os.getpid()))
        assert harness.run_leaksnoop("arenas", target.pid).status == 0
        assert libc.ptrace(interrupt, target.pid, None, None) == 0
        os.waitid(os.P_PID, target.pid, os.WSTOPPED | os.WEXITED)
        assert libc.ptrace(detach, target.pid, None, None) == 0
        assert harness.run_leaksnoop("arenas", target.pid, "--freeze").status == 0
        target.check_unharmed()


def test_busy_and_frozen(some_interpreter):
    """Stopped, a program at full speed has counts that add up; and it goes on as if nothing had been."""
    with harness.Target(some_interpreter, "busy_threads.py") as target:
        for _ in range(3):
            check_shape(arenas(target.pid, "--freeze"))
        target.check_unharmed()
