# SPDX-License-Identifier: MIT
"""leaksnoop history: a file of schema 1 as text and as JSON, without root, and each refusal with its reason."""

import json
import os
import pathlib
import sqlite3
import stat

import pytest

import harness
from harness import as_nobody, check_refusal

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def night(tmp_path):
    """A history of one night, as the first leaksnoop that had one wrote it."""
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as db:
        db.executescript((GOLDEN / "history_1.sql").read_text())
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    return path


def golden(name):
    return (GOLDEN / name).read_text()


def test_text(night):
    assert harness.run_leaksnoop("history", night).stdout == golden("history_processes.txt")
    assert harness.run_leaksnoop("history", night, "--events").stdout == golden("history_events.txt")
    assert harness.run_leaksnoop("history", night, "--pid", 4242).stdout == golden("history_details.txt")
    assert harness.run_leaksnoop("history", night, "--pid", 1).stdout == golden("history_nothing.txt")
    assert os.listdir(night.parent) == [night.name], "a reader leaves nothing behind"
    top = harness.run_leaksnoop("history", night, "--top", 1).stdout.splitlines()
    assert len(top) == 3 and top[1].startswith("4242") and "3 more" in top[2]


def test_json(night):
    history = harness.run_leaksnoop("history", night, "--format", "json").report
    assert history["file"] == str(night)
    history["file"] = "history.db"
    assert history == json.loads(golden("history_all.json"))


@pytest.mark.parametrize("since, until, pids", [
    ("2026-11-21", None, {4242}),
    ("2026-11-20T21:05:00Z", None, {4242, 4300, 5000}),
    ("2026-11-20T23:05:00+02:00", None, {4242, 4300, 5000}),
    ("2026-11-20 21:05", "2026-11-20T21:11:00.5Z", {4242, 4300}),
    (None, "2026-11-20T20:59:59Z", set()),
    ("10000d", None, {4242, 4300, 4400, 5000}),
])
def test_span(night, since, until, pids):
    span = (["--since", since] if since else []) + (["--until", until] if until else [])
    history = harness.run_leaksnoop("history", night, "--format", "json", *span).report
    assert {process["target"]["pid"] for process in history["processes"]} == pids


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "2026-02-31", "2026-11-21T03:00:00+99:00", "2026-11-21x", "-2h", ""])
def test_no_time(night, since):
    check_refusal(harness.run_leaksnoop("history", night, "--since=" + since), "--since", "must be", status=2, hint=False)


def test_until_before_since(night):
    check_refusal(harness.run_leaksnoop("history", night, "--since", "1h", "--until", "2h"), "before", status=2, hint=False)


def test_no_root(night, tmp_path):
    """Who may read the file needs no root, also where nothing may be written beside it."""
    night.chmod(0o644)
    result = as_nobody(tmp_path, "history", night)
    assert result.status == 0 and result.stdout == golden("history_processes.txt"), result
    assert sorted(os.listdir(tmp_path)) == ["history.db", "leaksnoop"]


def test_no_permission(night, tmp_path):
    night.chmod(stat.S_IRUSR | stat.S_IWUSR)
    result = as_nobody(tmp_path, "history", night)
    check_refusal(result, "Permission denied")
    assert "root" in result.stderr and "group" in result.stderr
    error = json.loads(as_nobody(tmp_path, "history", night, "--format", "json").stderr)
    assert error["schema"] == "leaksnoop.error/1" and "root" in error["hint"]


def test_no_file(tmp_path):
    check_refusal(harness.run_leaksnoop("history", tmp_path / "none.db"), "there is none")


def test_not_a_history(tmp_path):
    path = tmp_path / "text"
    path.write_text("this is no database, but it is long enough to be one\n" * 100)
    check_refusal(harness.run_leaksnoop("history", path), "not a database")
    check_refusal(harness.run_leaksnoop("history", tmp_path), "no regular file", hint=False)
    path.write_text("")
    check_refusal(harness.run_leaksnoop("history", path), "nothing was written", hint=False)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE process (id)")
    other.close()
    check_refusal(harness.run_leaksnoop("history", tmp_path / "other.db"), "another program")


def test_damaged(night):
    data = bytearray(night.read_bytes())
    night.write_bytes(data[:len(data) // 3])
    check_refusal(harness.run_leaksnoop("history", night), "malformed|damaged")


def test_newer(night):
    db = sqlite3.connect(night)
    db.execute("PRAGMA user_version = 1000")
    db.close()
    check_refusal(harness.run_leaksnoop("history", night), "newer leaksnoop")


def test_hostile(night):
    """Triggers and views that somebody put into a file do not run, and text in it steers no terminal."""
    db = sqlite3.connect(night)
    db.execute("UPDATE process SET cmdline = ?, container = ?", (json.dumps(["\033[2Ja\nb"]), "c\r\033]0;x\007"))
    db.execute("ALTER TABLE event RENAME TO old")
    db.execute("CREATE VIEW event AS SELECT * FROM old")
    db.commit()
    db.close()
    check_refusal(harness.run_leaksnoop("history", night), "view")
    db = sqlite3.connect(night)
    db.execute("DROP VIEW event")
    db.execute("ALTER TABLE old RENAME TO event")
    db.commit()
    db.close()
    for form in "text", "json":
        result = harness.run_leaksnoop("history", night, "--format", form)
        assert result.status == 0 and not set("\033\r\007") & set(result.stdout), result
