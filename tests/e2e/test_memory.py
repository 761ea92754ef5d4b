# SPDX-License-Identifier: MIT
"""The balance sheet: adds up to RSS, is explained, tells which part grows; in the verb 'memory' and in attach's report."""

import json
import os
import signal
import subprocess
import time

import pytest

import harness

PARTS = ["pymalloc-live", "pymalloc-free", "python-large", "libc-live", "libc-free", "mmap", "file", "stack", "other"]
EXPLAINED = 0.95


def memory(pid, *args, timeout=60):
    return harness.run_leaksnoop("memory", pid, "--format", "json", *args, timeout=timeout)


def sheets(text):
    """One JSON object, or several on a line each."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def check(sheet):
    assert sheet["schema"] == "leaksnoop.memory/1"
    parts = {part["name"]: part["bytes"] for part in sheet["memory"]["parts"]}
    assert list(parts) == PARTS
    assert sum(parts.values()) == sheet["memory"]["rss_bytes"]
    assert 0 < sheet["memory"]["pss_bytes"] <= sheet["memory"]["rss_bytes"]
    assert sheet["memory"]["explained_ratio"] >= EXPLAINED
    return parts


def test_once(python):
    with harness.Target(python, "idle.py") as target:
        result = memory(target.pid)
        assert result.status == 0, result
        sheet = sheets(result.stdout)[0]
        parts = check(sheet)
        assert parts["pymalloc-live"] > 0 and parts["file"] > 0 and parts["stack"] > 0
        assert sheet["target"]["pid"] == target.pid and sheet["grows"] is None and sheet["delta_bytes"] is None
        assert sheet["libc"]["refused"] == 0 and sheet["advice"] is None
        target.check_unharmed()


def test_again_and_again():
    """A service that leaks from malloc(): the part that grows is libc's, at its rate."""
    python = harness.interpreters()[0]
    with harness.Target(python, "services/other_native.py") as target:
        time.sleep(1)
        result = memory(target.pid, "--interval", "1", "--count", "6")
        found = sheets(result.stdout)
        assert result.status == 0 and len(found) == 6, result
        for sheet in found:
            check(sheet)
        last = found[-1]
        assert last["grows"] == "libc-live"
        rate = next(part["growth_bytes_per_second"] for part in last["memory"]["parts"] if part["name"] == "libc-live")
        # 50 blocks of 10,000 bytes a second, if the machine keeps pace
        assert 100e3 < rate < 700e3
        total = sum(part["growth_bytes_per_second"] for part in last["memory"]["parts"])
        assert total == pytest.approx(last["memory"]["growth_bytes_per_second"], rel=1e-6, abs=1)
        grown = last["memory"]["rss_bytes"] - found[-2]["memory"]["rss_bytes"]
        assert sum(last["delta_bytes"].values()) == grown


def test_numpy():
    """Debian's numpy: its arrays are malloc's, with mappings of their own."""
    python = next((i for i in harness.interpreters() if i.label == "debian-3.11"), None)
    if python is None:
        pytest.skip("needs Debian's Python 3.11 and its numpy")
    with harness.Target(python, "numpy_arrays.py") as target:
        parts = check(sheets(memory(target.pid).stdout)[0])
        assert 200 << 20 < parts["libc-live"] < 260 << 20


def test_text_and_end():
    python = harness.interpreters()[-1]
    with harness.Target(python, "idle.py") as target:
        result = harness.run_leaksnoop("memory", target.pid)
        assert result.status == 0 and "% explained" in result.stdout and "pymalloc-live" in result.stdout
        pid = target.pid
    result = harness.run_leaksnoop("memory", pid, "--format", "json")
    assert result.status == 1 and json.loads(result.stderr)["schema"] == "leaksnoop.error/1"
    assert harness.run_leaksnoop("memory").status == 2


def test_a_signal_ends_it():
    """Also where a sheet takes longer than the interval (100 MB of small malloc blocks here), so that one follows the other."""
    python = harness.interpreters()[0]
    with harness.Target(python, "malloc_blocks.py") as target, open(os.devnull, "w") as sink:
        command = [str(harness.BINARY), "memory", str(target.pid), "--interval", "0.1"]
        with subprocess.Popen(command, stdout=sink) as tracer:
            try:
                time.sleep(2)
                tracer.send_signal(signal.SIGINT)
                assert tracer.wait(20) == 0
            finally:
                tracer.kill()


@pytest.mark.parametrize("mode", ["sampled", "exact", "passive"])
def test_attach_has_the_parts(mode):
    python = harness.interpreters()[0]
    with harness.Target(python, "services/leak_slots.py") as target:
        result = harness.run_leaksnoop("attach", target.pid, "--mode", mode, "--duration", "4", "--format", "json")
        assert result.status == 0, result
        found = result.report["memory"]
        assert [part["name"] for part in found["parts"]] == PARTS
        assert sum(part["bytes"] for part in found["parts"]) == found["rss_bytes"]
        assert found["explained_ratio"] >= EXPLAINED
        rates = [part["growth_bytes_per_second"] for part in found["parts"]]
        assert sum(rates) == pytest.approx(found["growth_bytes_per_second"], rel=1e-6, abs=1)
        target.check_unharmed()
