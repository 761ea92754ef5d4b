# SPDX-License-Identifier: MIT
"""leaksnoop heap: the census against the program itself, growth, snapshots in files, and what can go wrong with each."""

import datetime
import gzip
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import time

import pytest

import harness
from harness import as_nobody, check_refusal


class Known(harness.Target):
    """heap_known.py, and what it says of itself."""

    def __init__(self, interpreter, *args, **kwargs):
        super().__init__(interpreter, "heap_known.py", *args, **kwargs)

    def ask(self, command, answer):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        line = self.lines.wait(answer, 30, since=len(self.lines.seen))
        assert line is not None, self.stderr()
        return line

    def grow(self, count):
        self.ask("grow %d" % count, "grown")

    def truth(self):
        """{class name: (count, sum of sys.getsizeof())}"""
        return {name: tuple(row) for name, row in json.loads(self.ask("truth", "truth").split(" ", 1)[1]).items()}


    def sessions_at(self, moment):
        """How many Session there were, as `auto` has said (moment: RFC 3339); between two of its words, (at least, at most)."""
        seconds = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
        said = [(float(t), int(n)) for _, t, n in (line.split() for line in self.lines.seen if line.startswith("at "))]
        return max((n for t, n in said if t <= seconds), default=0), min((n for t, n in said if t > seconds), default=said[-1][1])


def heap(pid, *args, **kwargs):
    return harness.run_leaksnoop("heap", pid, "--format", "json", *args, **kwargs).report


def types_of(report):
    rows = {row["name"]: row for row in report["types"]}
    assert len(rows) == len(report["types"]), "no name twice"
    return rows


def check_contract(report, deltas):
    """The keys of leaksnoop.heap/1, sums that hold, and deltas exactly where they belong."""
    assert report["schema"] == "leaksnoop.heap/1"
    assert {"pid", "python", "cmdline", "container"} <= set(report["target"])
    assert sum(row["count"] for row in report["types"]) + report["more"]["count"] == report["totals"]["objects"]
    assert sum(row["bytes"] for row in report["types"]) + report["more"]["bytes"] == report["totals"]["bytes"]
    for row in report["types"]:
        assert set(row) >= {"name", "count", "bytes", "owned_bytes", "delta_count", "delta_bytes"}
        assert (row["delta_bytes"] is not None) == (row["delta_count"] is not None) == deltas, row
        assert 0 <= row["owned_bytes"] <= row["bytes"] < 2 ** 40, row
    kinds = {row["kind"] for row in report["non_objects"]}
    assert kinds >= {"dict keys", "instance values", "list array", "code", "free list", "unknown"}
    order = [row["delta_bytes"] if deltas else row["bytes"] for row in report["types"]]
    assert order == sorted(order, reverse=True)
    assert {"retries", "refused", "seconds", "read_bytes"} <= set(report["quality"])


def test_counts_growth_and_snapshots(interpreter, tmp_path):
    """Against the program's own count; then the growth it knows it made, by two files that somebody else compares, without root."""
    before, after = tmp_path / "before.heap", tmp_path / "after.heap"
    with Known(interpreter) as target:
        report = heap(target.pid, "--save", before)
        check_contract(report, deltas=False)
        for name, (count, size) in target.truth().items():
            row = types_of(report)["__main__." + name]
            assert (row["count"], row["bytes"]) == (count, size), name
        target.grow(2000)
        heap(target.pid, "--save", after)
        live = types_of(heap(target.pid, "--compare", before))
        target.check_unharmed()
    assert os.stat(before).st_mode & 0o7777 == 0o600
    for file in (before, after):
        file.chmod(0o644)
    loaded = as_nobody(tmp_path, "heap", "--load", after, "--compare", before, "--format", "json").report
    check_contract(loaded, deltas=True)
    for rows in (types_of(loaded), live):
        assert rows["__main__.Session"]["delta_count"] == 2000
        assert rows["float"]["delta_count"] in range(1990, 2011)
        for name in ("str", "bytes", "int", "list"):
            assert rows[name]["delta_count"] in range(1950, 2051), name
        assert rows["__main__.Slotted"]["delta_count"] == 0
    assert loaded["target"]["pid"] == target.pid and loaded["since"]["target"]["pid"] == target.pid
    # The other way round it is the same: the earlier one comes first.
    assert as_nobody(tmp_path, "heap", "--load", before, "--compare", after, "--format", "json").report == loaded
    text = as_nobody(tmp_path, "heap", "--load", after, "--type", "__main__.*").stdout
    assert "__main__.Session" in text and not re.search(r"  (str|dict keys)$", text, re.MULTILINE)
    assert json.loads(gzip.open(before).readline())["schema"] == "leaksnoop.heap-snapshot/1"


def test_diff_names_what_grows_and_how_fast(some_interpreter):
    with Known(some_interpreter) as target:
        target.ask("auto 3000", "auto")
        report = heap(target.pid, "--diff", "--interval", 1)
        check_contract(report, deltas=True)
        text = harness.run_leaksnoop("heap", target.pid, "--diff", "--interval", 0.2).stdout
        assert target.process.poll() is None
        target.lines.read_for(0.1)
    seconds = report["since"]["seconds"]
    assert seconds >= 1
    row = types_of(report)["__main__.Session"]
    # A census takes its time, and the machine may let the target wait: so it is asked how many there were then.
    (least_before, most_before), (least, most) = target.sessions_at(report["since"]["time"]), target.sessions_at(report["time"])
    slack = 0.1 * (most - least_before) + 100
    assert least - most_before - slack <= row["delta_count"] <= most - least_before + slack
    assert row["delta_count"] > 300
    assert row["count_per_second"] == pytest.approx(row["delta_count"] / seconds)
    assert row["bytes_per_second"] == pytest.approx(row["delta_bytes"] / seconds)
    # What each Session owns grows with it: these are the first.
    top = {row["name"] for row in report["types"][:7]}
    assert {"__main__.Session", "str", "bytes", "list", "float", "int"} <= top | {"dict"}, top
    assert report["totals"]["delta_bytes"] > 0
    assert re.search(r"^growth over \S+ m?s$", text, re.MULTILINE) and re.search(r"\+\S+ \S+/s  __main__\.Session$", text, re.MULTILINE), text


def test_freeze(some_interpreter):
    """Nothing changes under a census of a frozen process, and it runs on afterwards."""
    with Known(some_interpreter, "--threads", 2) as target:
        retries = []
        for _ in range(5 if not harness.FULL else 50):
            report = heap(target.pid, "--freeze")
            check_contract(report, deltas=False)
            assert 0 < report["quality"]["frozen_seconds"] < 20
            retries.append(report["quality"]["retries"])
            assert types_of(report)["__main__.Session"]["count"] == 1000
        # A thread that was stopped in the middle of an allocation leaves its pool, or malloc's chunks, as they are, however often they are
        # read; but it is not there every time.
        assert min(retries) <= 20, retries
        status = pathlib.Path("/proc/%d/status" % target.pid).read_text()
        assert "TracerPid:\t0" in status and not re.search(r"State:\s+[tT]", status), status
        target.check_unharmed()


def test_while_it_works(some_interpreter):
    """4 threads allocate and free as fast as they can: what stays is counted all the same, or counted as refused."""
    with Known(some_interpreter, "--threads", 4) as target:
        for _ in range(5 if not harness.FULL else 50):
            report = heap(target.pid)
            check_contract(report, deltas=False)
            rows = types_of(report)
            # Those in a pool that is written to all the time may be missing, and the report says that something is.
            missing = 1501 - rows["__main__.Session"]["count"] - rows["__main__.Slotted"]["count"]
            assert 0 <= missing <= 100 and (not missing or report["quality"]["refused"]), (missing, report["quality"])
            assert report["totals"]["objects"] < 10 ** 7
        target.check_unharmed()


def test_hostile_names(python, tmp_path):
    """Names that would steer a terminal are escaped; a file keeps them apart. (A type whose name has C0 controls is taken for none.)"""
    file = tmp_path / "hostile.heap"
    with Known(python, "--hostile") as target:
        text = harness.run_leaksnoop("heap", target.pid, "--top", 0, "--save", file)
        live = heap(target.pid, "--type", "*evil*")
    assert text.status == 0
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text.stdout)
    assert "evil\\u{9b}31m\\u{2028}" in text.stdout and "right\\u{202e}left" in text.stdout
    (row,) = live["types"]
    assert row["count"] == 1000 and row["name"] == "evil\x9b31m\u2028.evil\x9b31m\u2028"
    loaded = harness.run_leaksnoop("heap", "--load", file, "--type", "*evil*", "--format", "json").report
    assert loaded["types"] == live["types"]
    assert sum(row["count"] == 1000 for row in harness.run_leaksnoop("heap", "--load", file, "--format", "json").report["types"]) == 7


@pytest.mark.parametrize("seed", range(1, 2 if not harness.FULL else 40))
def test_garbage_in_its_own_objects(some_interpreter, seed):
    """A report, not a crash or a hang; what is intact is counted."""
    with harness.Target(some_interpreter, "heap_garbage.py", "--seed", seed) as target:
        report = heap(target.pid, timeout=30)
        assert types_of(report)["__main__.Intact"]["count"] == 1234
        assert harness.run_leaksnoop("heap", target.pid, timeout=30).status == 0
        assert target.process.poll() is None


class Running:
    """A leaksnoop heap that goes on until it is told to end. Use as a context."""

    def __init__(self, *args):
        command = [str(harness.BINARY), "heap", *map(str, args)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = harness.Lines(self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def wait_waiting(self, timeout=30):
        """Until it sleeps between two censuses."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with open("/proc/%d/syscall" % self.process.pid) as file:
                if file.read().split()[0] == "271":   # ppoll
                    return
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)
        raise AssertionError("it does not wait")

    def finish(self, timeout=30):
        out, err = self.process.communicate(timeout=timeout)
        rest = [line.decode() for line in (self.lines.rest + out).splitlines()]
        return harness.Result(self.process.returncode, "\n".join(self.lines.seen + rest), err.decode())


def test_interrupt_ends_the_wait_with_a_report(python):
    with Known(python) as target, Running(target.pid, "--diff", "--interval", 3600, "--format", "json") as running:
        running.wait_waiting()
        target.grow(500)
        running.process.send_signal(signal.SIGINT)
        report = running.finish().report
    assert types_of(report)["__main__.Session"]["delta_count"] == 500
    assert report["since"]["seconds"] < 60


def test_rounds(python):
    """One report a line; deltas are relative to the first census, not to the one before."""
    with Known(python) as target, Running(target.pid, "--diff", "--interval", 0.4, "--count", 0, "--format", "json") as running:
        running.wait_waiting()
        target.grow(10)
        assert running.lines.wait("{", 30)
        seen = len(running.lines.seen)
        assert running.lines.wait("{", 30, since=seen)
        target.grow(10)
        running.wait_waiting()
        running.process.send_signal(signal.SIGTERM)
        reports = running.finish().reports
    deltas = [types_of(report)["__main__.Session"]["delta_count"] for report in reports]
    assert len(deltas) >= 3 and deltas[0] in (0, 10) and deltas[-1] == 20, deltas
    assert deltas == sorted(deltas)
    seconds = [report["since"]["seconds"] for report in reports]
    assert seconds == sorted(seconds) and len({report["since"]["time"] for report in reports}) == 1


def test_count_and_interval_without_diff(python):
    with Known(python) as target:
        result = harness.run_leaksnoop("heap", target.pid, "--interval", 0.2, "--count", 3, "--format", "json", "--top", 2)
        assert [len(report["types"]) for report in result.reports] == [2, 2, 2]
        assert all(report["since"] is None for report in result.reports)
        with Running(target.pid, "--interval", 0.2, "--top", 1) as running:
            running.wait_waiting()
            running.process.send_signal(signal.SIGINT)
            result = running.finish()
        assert result.status == 0 and result.stdout.count("total: ") >= 1 and result.stderr == ""


def test_target_ends_meanwhile(python):
    with Known(python) as target, Running(target.pid, "--diff", "--interval", 3600) as running:
        running.wait_waiting()
        target.process.kill()
        check_refusal(running.finish(), str(target.pid), "ended before the second census")
    # That of a run without an end of its own is no error.
    with Known(python) as target, Running(target.pid, "--interval", 3600) as running:
        running.wait_waiting()
        target.process.kill()
        result = running.finish()
    assert result.status == 0 and result.stdout and not result.stderr


def test_target_is_killed_at_any_moment(python):
    """A report or an error that says so."""
    for i in range(10 if not harness.FULL else 100):
        with Known(python) as target, Running(target.pid, "--format", "json") as running:
            time.sleep(harness.in_random_order_of_time(0.04, i))
            target.process.kill()
            result = running.finish()
            if result.status == 0:
                check_contract(result.report, deltas=False)
            else:
                assert result.status == 1 and re.search("ended|about to end|no process|no such process|not a Python", json.loads(result.stderr)["error"]), result


def test_interrupt_at_any_moment(python):
    """Ends at once: with the report, with an error that says why there is none, or, before it listens, as any program does."""
    with Known(python) as target:
        for i in range(10 if not harness.FULL else 200):
            with Running(target.pid, "--format", "json") as running:
                time.sleep(harness.in_random_order_of_time(0.06, i))
                running.process.send_signal(signal.SIGINT)
                result = running.finish(timeout=10)
            assert result.status in (0, 1, -signal.SIGINT), result
            if result.status == 0:
                check_contract(result.report, deltas=False)
            elif result.status == 1:
                assert json.loads(result.stderr)["error"].startswith("interrupted before"), result
        target.check_unharmed()


def on_terminal(columns, *args):
    """(what a terminal of so many columns is shown, status)"""
    master, slave = pty.openpty()
    subprocess.run(["stty", "cols", str(columns), "rows", "50"], stdin=slave, check=True)
    process = subprocess.Popen([str(harness.BINARY), "heap", *map(str, args)], stdin=slave, stdout=slave, stderr=slave,
                               env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    found = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        found += data
    os.close(master)
    return found.decode(), process.wait(20)


@pytest.mark.parametrize("columns", [80, 160])
def test_tables_fit_the_terminal(python, columns):
    with Known(python, "--hostile") as target:
        target.ask("auto 1000", "auto")
        text, status = on_terminal(columns, target.pid, "--diff", "--interval", 0.5, "--top", 0)
    assert status == 0
    assert "the next census in 500 ms" in text
    report = text[text.rindex("\x1b[K") + 3:]
    lines = report.splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith("TYPE"))
    table = lines[start:lines.index("", start)]
    assert len(table) > 3 and max(map(len, table)) <= columns, table
    assert ("OWNED" in table[0]) == (columns > 100)


USAGE = [
    [], ["x"], ["1", "2"], ["1", "--interval", "0"], ["1", "--count", "x"], ["1", "--load", "x"], ["--load", "x", "--diff"],
    ["--load", "x", "--save", "y"], ["--load", "x", "--freeze"], ["--load", "x", "--count", "1"], ["--load", "x", "--interval", "1"],
    ["--compare", "x"], ["1", "--diff", "--compare", "x"], ["--load"], ["1", "--top", "-2"],
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_usage(args):
    check_refusal(harness.run_leaksnoop("heap", *args), status=2, hint=False)


def test_refusals(python, tmp_path):
    sleeper = subprocess.Popen(["sleep", "1000"])
    check_refusal(harness.run_leaksnoop("heap", sleeper.pid), str(sleeper.pid), "not a Python")
    sleeper.kill()
    sleeper.wait()
    check_refusal(harness.run_leaksnoop("heap", sleeper.pid), str(sleeper.pid), "no (such )?process|ended")
    with Known(python) as target:
        check_refusal(as_nobody(tmp_path, "heap", target.pid), "permission")
        check_refusal(harness.run_leaksnoop("heap", target.pid, "--save", "/nonexistent/x"), "cannot write /nonexistent/x: No such file", hint=False)
        check_refusal(harness.run_leaksnoop("heap", target.pid, "--save", "/dev/null"), "cannot write /dev/null: it exists and is no ordinary file")
        check_refusal(harness.run_leaksnoop("heap", target.pid, "--compare", "/nonexistent/x"), "cannot load /nonexistent/x", hint=False)


def test_another_malloc(python):
    """jemalloc: pymalloc's blocks are read, and it is said that larger ones are not."""
    library = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
    assert os.path.exists(library), "needs libjemalloc2 (scripts/deps.sh)"
    with Known(python, env={"LD_PRELOAD": library}) as target:
        report = heap(target.pid)
        assert report["quality"]["small_only"] and report["totals"]["objects"] > 10000
        text = harness.run_leaksnoop("heap", target.pid).stdout
        assert "over 512 bytes are missing" in text
        memory = harness.run_leaksnoop("memory", target.pid, "--format", "json").report["memory"]
        assert memory["explained_ratio"] > 0.95
        target.check_unharmed()
    with Known(python) as target:
        assert not heap(target.pid)["quality"]["small_only"]


@pytest.mark.parametrize("allocator", ["malloc", "debug", "pymalloc"])
def test_allocators(python, allocator):
    """PYTHONMALLOC: objects in libc's chunks, and objects between guards."""
    with Known(python, env={"PYTHONMALLOC": allocator}) as target:
        report = heap(target.pid)
        for name, (count, size) in target.truth().items():
            row = types_of(report)["__main__." + name]
            assert (row["count"], row["bytes"]) == (count, size), name


def test_mimalloc_is_refused(object_interpreter):
    with harness.Target(object_interpreter, "idle.py", env={"PYTHONMALLOC": "mimalloc"}) as target:
        check_refusal(harness.run_leaksnoop("heap", target.pid), "mimalloc")


def test_broken_files(python, tmp_path):
    good = tmp_path / "good.heap"
    with Known(python) as target:
        heap(target.pid, "--save", good)
    data = good.read_bytes()
    text = gzip.decompress(data).decode()
    bad = tmp_path / "bad.heap"
    cases = [
        (b"", "is empty"), (b"hello", "no snapshot"), (gzip.compress(b"hello\n"), "no snapshot"), (data[:len(data) // 2], "breaks off"),
        (data[:-1], "breaks off"), (data[:100] + bytes([data[100] ^ 1]) + data[101:], "damaged|breaks off|no snapshot"),
        (data + b"x", "something comes after its end"), (gzip.compress(text.replace("snapshot/1", "snapshot/7", 1).encode()), "version 7"),
        (gzip.compress(text.rsplit("\n", 2)[0].encode() + b"\n"), "its end is missing"),
        (gzip.compress(re.sub(r'"count":\d+', '"count":-1', text).encode()), "line 2: a number is missing or out of bounds"),
        (gzip.compress(b" " * (400 << 20), 1), "longer than any"),
    ]
    for content, words in cases:
        bad.write_bytes(content)
        check_refusal(harness.run_leaksnoop("heap", "--load", bad), "cannot load %s: " % bad, words)
        check_refusal(harness.run_leaksnoop("heap", "--load", good, "--compare", bad), words)
    result = harness.run_leaksnoop("heap", "--load", bad, "--format", "json")
    assert result.status == 1 and json.loads(result.stderr)["schema"] == "leaksnoop.error/1"
    assert sorted(os.listdir(tmp_path)) == ["bad.heap", "good.heap"]
