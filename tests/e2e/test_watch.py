# SPDX-License-Identifier: MIT
"""leaksnoop watch: finds processes, names the lines of those that leak, accuses nobody else, survives what happens to them and to it."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import Target
from prometheus import Prometheus, free_port
from watching import FOUND_SECONDS, Watch, check_integrity, first_line, history

CGROUP = pathlib.Path("/sys/fs/cgroup/memory")


def leak_lines(program):
    return {(os.path.basename(program), line) for line in harness.keep_lines(program).values()}


def names_the_line(event, program):
    return event["verdict"] == "leak" and event["report"] and event["report"]["findings"] and \
        first_line(event["report"]) in leak_lines(program)


def test_leaks_are_named_and_nobody_else(tmp_path, python):
    leaking, steady = ["leaky_service.py", "services/leak_instances.py"], ["services/steady_updates.py", "idle.py"]
    targets = [Target(python, program, *(["--rate", "300"] if program == "leaky_service.py" else [])) for program in leaking + steady]
    try:
        with Watch(tmp_path / "h.db", pids=[t.pid for t in targets]) as watch:
            for target in targets:
                watch.wait_kind("start", target.pid, 20)
            for target, program in zip(targets, leaking):
                watch.wait(lambda e, t=target, p=program: e["target"]["pid"] == t.pid and names_the_line(e, p), FOUND_SECONDS)
            assert watch.end() == 0, watch.stderr()
            accused = {e["target"]["pid"] for e in watch.events if e["kind"] in ("verdict", "alert") and e["verdict"] == "leak"}
            assert accused == {t.pid for t in targets[:2]}, watch.summary()
            assert all(e["schema"] == "leaksnoop.event/1" for e in watch.events)
        for target in targets:
            assert not any(slot["armed"] for slot in harness.doctor(target.pid)["slots"])
        kept = {p["target"]["pid"]: p for p in history(tmp_path / "h.db")["processes"]}
        assert set(kept) == {t.pid for t in targets}
        assert names_in_history(kept[targets[0].pid], "leaky_service.py")
        check_integrity(tmp_path / "h.db")
    finally:
        for target in targets:
            target.close()


def names_in_history(process, program):
    report = process["last_report"]
    return report and report["verdict"]["kind"] == "leak" and first_line(report) in leak_lines(program)


def test_nothing_is_armed_in_what_does_not_grow(tmp_path, python):
    with Target(python, "idle.py") as target, Watch(tmp_path / "h.db", pids=[target.pid]) as watch:
        watch.wait_kind("start", target.pid, 20)
        slots = harness.Slots.of(target)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            assert slots.armed() == []
            watch.read_for(0.1)
        assert watch.end() == 0
        assert not any(e["report"] for e in watch.events)


def test_ends_are_told_apart(tmp_path, python):
    """Exit with a status, killed by a signal, exec of another program, and a PID that is another process by then."""
    programs = {
        "status": "import sys,time; print('ready',flush=True); sys.stdin.readline(); sys.exit(7)",
        "killed": "import sys; print('ready',flush=True); sys.stdin.readline(); sys.stdin.readline()",
        "exec": "import os,sys; print('ready',flush=True); sys.stdin.readline(); os.execv('/bin/sleep', ['sleep', '60'])",
    }
    processes = {name: subprocess.Popen([*python.command, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                 for name, code in programs.items()}
    try:
        for process in processes.values():
            assert process.stdout.readline() == "ready\n"
        with Watch(tmp_path / "h.db", pids=[p.pid for p in processes.values()]) as watch:
            for process in processes.values():
                watch.wait_kind("start", process.pid, 20)
            for name in ("status", "exec"):
                processes[name].stdin.write("\n")
                processes[name].stdin.flush()
            processes["killed"].kill()
            assert watch.wait_kind("exit", processes["status"].pid, 10)["end"] == {"status": 7}
            assert watch.wait_kind("killed", processes["killed"].pid, 10)["end"] == {"signal": 9}
            assert watch.wait_kind("exit", processes["exec"].pid, 10)["end"] is None
            assert watch.end() == 0
        ends = {p["target"]["pid"]: p["end"] for p in history(tmp_path / "h.db")["processes"]}
        assert ends[processes["status"].pid] == "exit" or ends[processes["status"].pid] == "exited", ends
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_prefork_workers_are_grouped(tmp_path, python):
    with Target(python, "prefork.py") as target:
        workers = [int(pid) for pid in pathlib.Path("/proc/%d/task/%d/children" % (target.pid, target.pid)).read_text().split()]
        assert workers
        with Watch(tmp_path / "h.db", pids=[target.pid, *workers]) as watch:
            for pid in (target.pid, *workers):
                assert watch.wait_kind("start", pid, 20)["target"]["group"] == target.pid
            assert watch.end() == 0


@pytest.mark.skipif(not CGROUP.is_dir() and not harness.CI, reason="no memory cgroups (version 1) here")
def test_the_line_is_known_after_an_oom_kill(tmp_path, python):
    group = CGROUP / ("leaksnoop-test-%d" % os.getpid())
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(120 << 20))
        program = tmp_path / "oom.py"
        program.write_text("import time\nprint('ready', flush=True)\nkept = []\n"
                           "def serve():\n    kept.append(bytes(range(250)) * 8)  # LEAK\n"
                           "while True:\n    for _ in range(12): serve()\n    time.sleep(0.01)\n")
        process = subprocess.Popen([*python.command, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        (group / "cgroup.procs").write_text(str(process.pid))
        assert process.stdout.readline() == b"ready\n"
        with Watch(tmp_path / "h.db", "--cgroup", "/" + group.name) as watch:
            event = watch.wait_kind("oom", process.pid, 90)
            assert watch.end() == 0
        assert process.wait() == -signal.SIGKILL
        assert first_line(event["report"]) == ("oom.py", 5)
        kept = [p for p in history(tmp_path / "h.db")["processes"] if p["target"]["pid"] == process.pid]
        assert len(kept) == 1 and kept[0]["end"] == "oom" and first_line(kept[0]["last_report"]) == ("oom.py", 5)
        shown = harness.run_leaksnoop("history", tmp_path / "h.db", "--pid", process.pid)
        assert shown.status == 0 and "oom.py:5" in shown.stdout, shown
    finally:
        if "process" in locals():
            process.kill()
            process.wait()
        group.rmdir()


def test_containers(tmp_path):
    """A Python of another system in its own mount, PID and user namespace: found by itself, named and traced."""
    inside = [i for i in harness.interpreters() if i.label == "debian-3.14"]
    if not inside:
        pytest.skip("no chroot of sid at hand")
    prefix = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount"]
    with Target(inside[0], "leaky_service.py", "--rate", "300", prefix=prefix) as target:
        with Watch(tmp_path / "h.db", "--comm", "leaky_service.py") as watch:
            event = watch.wait(lambda e: names_the_line(e, "leaky_service.py"), FOUND_SECONDS)
            assert watch.end() == 0
        assert event["target"]["pid"] != target.pid and event["target"]["container"], event["target"]
        assert event["target"]["python"].startswith("3.14")


def test_killed_and_restarted(tmp_path, python):
    """kill -9 at any moment: no target is harmed, the history is whole, slots are restored."""
    path = tmp_path / "h.db"
    with Target(python, "leaky_service.py", "--rate", "400") as target, Target(python, "busy_threads.py") as other:
        for i in range(10 if harness.FULL else 3):
            with Watch(path, pids=[target.pid, other.pid]) as watch:
                watch.wait_kind("start", target.pid, 20)
                watch.read_for(1 + 3 * i)
                watch.kill()
            check_integrity(path)
        with Watch(path, pids=[target.pid, other.pid]) as watch:
            watch.wait(lambda e: e["target"]["pid"] == target.pid and names_the_line(e, "leaky_service.py"), FOUND_SECONDS)
            assert watch.end() == 0, watch.stderr()
        assert harness.Slots.of(target).armed() == []
        other.check_unharmed()
        assert target.process.poll() is None and target.stderr() == ""
        check_integrity(path)


def test_slots_that_were_left_armed(tmp_path, python):
    """A killed tracer's, in a process that watch would never sample."""
    with Target(python, "idle.py") as target:
        slots = harness.Slots.of(target)
        with harness.Trace(target.pid, "--mode", "exact") as trace:
            trace.kill()
        assert slots.armed()
        with Watch(tmp_path / "h.db", pids=[target.pid]) as watch:
            watch.wait_kind("start", target.pid, 20)
            assert slots.armed() == []
            assert "left armed were restored" in watch.stderr()
            assert watch.end() == 0


CROWD = """import os, random, sys, time
time.sleep(random.random() * 2)
if random.random() < .3:
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(1)"])
if os.fork() == 0:
    time.sleep(random.random())
    os._exit(3)
time.sleep(random.random())
"""


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def descriptor_names(pid):
    names = []
    for number in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(OSError):
            names.append(os.readlink("/proc/%d/fd/%s" % (pid, number)))
    return sorted(names)


def test_targets_come_and_go(tmp_path, python):
    """Processes that are born, killed, exec'ed and forked all the time, while one leaks."""
    script = tmp_path / ("crowd-%d.py" % os.getpid())
    script.write_text(CROWD)
    with Target(python, "leaky_service.py", "--rate", "400") as target:
        with Watch(tmp_path / "h.db", "--comm", "leaky_service.py", "--comm", script.name) as watch:
            watch.wait_kind("start", target.pid, 20)
            before, crowd, deadline = descriptors(watch.pid), [], time.monotonic() + 20
            while time.monotonic() < deadline:
                crowd.append(subprocess.Popen([*python.command, str(script)], stderr=subprocess.DEVNULL))
                if len(crowd) % 3 == 0:
                    crowd[-1].kill()
                watch.read_for(0.1)
                for process in crowd:
                    process.poll()
            watch.wait(lambda e: e["target"]["pid"] == target.pid and names_the_line(e, "leaky_service.py"), FOUND_SECONDS)
            for process in crowd:
                process.wait()
            watch.read_for(4)
            # Besides, sampling holds 49: its maps, programs, links and the watchdog's pipe. Others are open for a moment.
            deadline = time.monotonic() + 2
            while descriptors(watch.pid) >= before + 50:
                assert time.monotonic() < deadline, descriptor_names(watch.pid)
                watch.read_for(0.1)
            assert watch.end() == 0, watch.stderr()
            starts, ends = (sum(e["kind"] in kinds for e in watch.events) for kinds in (("start",), ("exit", "killed", "oom")))
            assert starts > 30 and ends >= starts - 1, (starts, ends)
        assert target.process.poll() is None and target.stderr() == ""


def get(path, name):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(path))
        s.sendall(("GET %s HTTP/1.0\r\n\r\n" % name).encode())
        data = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), body.decode()


def check_metrics(path, pid):
    status, text = get(path, "/metrics")
    assert status == 200
    assert get(path, "/healthz")[0] == 200
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert checked.returncode == 0, checked.stdout
    assert 'pid="%d"' % pid in text and "leaky_service.py" in text and 'verdict="leak"' in text


def test_alerts_and_metrics(tmp_path, python):
    """An alert runs the command when it begins and when it ends; the metrics say what is known."""
    log, path = tmp_path / "alerts", tmp_path / "metrics.sock"
    command = "{ echo \"$LEAKSNOOP_KIND $LEAKSNOOP_PID\"; cat; echo; } >> %s" % log
    with Target(python, "leaky_service.py", "--rate", "400") as target:
        port = free_port()
        with Watch(tmp_path / "h.db", "--on-alert", command, "--listen", "unix:%s" % path, "--listen", port, pids=[target.pid]) as watch:
            event = watch.wait_kind("alert", target.pid, FOUND_SECONDS)
            assert event["why"]
            check_metrics(path, target.pid)
            with Prometheus(tmp_path, port) as prometheus:
                # It is this process that has to serve it meanwhile.
                deadline = time.monotonic() + 60
                while not prometheus.query('leaksnoop_process_alert{app="leaky_service.py"} == 1'):
                    assert time.monotonic() < deadline, prometheus.log.read_text()[-2000:]
                    watch.read_for(0.3)
            target.process.kill()
            watch.wait_kind("alert-end", target.pid, 20)
            assert watch.end() == 0
        assert not path.exists()
    deadline = time.monotonic() + 10
    while log.read_text().count("leaksnoop.event/1") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    kinds = [line.split()[0] for line in log.read_text().splitlines() if line.startswith("alert")]
    assert kinds == ["alert", "alert-end"], log.read_text()


def test_a_full_disk_at_the_start(tmp_path, python):
    """It watches on without a history, says so, and begins one when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=True)
    try:
        (disk / "filling").write_bytes(bytes(400 << 10))
        with Target(python, "idle.py") as target, Watch(disk / "h.db", pids=[target.pid]) as watch:
            watch.wait_kind("start", target.pid, 20)
            assert "no history" in watch.stderr()
            (disk / "filling").unlink()
            deadline = time.monotonic() + 30
            while harness.run_leaksnoop("history", disk / "h.db").status and time.monotonic() < deadline:
                watch.read_for(0.5)
            assert watch.end() == 0
        assert [p["target"]["pid"] for p in history(disk / "h.db")["processes"]] == [target.pid]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_hangup_reopens_the_history(tmp_path, python):
    with Target(python, "idle.py") as target, Watch(tmp_path / "h.db", pids=[target.pid]) as watch:
        watch.wait_kind("start", target.pid, 20)
        watch.read_for(2)
        for name in ("h.db", "h.db-wal", "h.db-shm"):
            if (tmp_path / name).exists():
                (tmp_path / name).rename(tmp_path / ("old-" + name))
        watch.process.send_signal(signal.SIGHUP)
        watch.read_for(3)
        assert watch.end() == 0, watch.stderr()
    for name in ("old-h.db", "h.db"):
        assert [p["target"]["pid"] for p in history(tmp_path / name)["processes"]] == [target.pid], name
        check_integrity(tmp_path / name)


def test_refusals(tmp_path):
    run = harness.run_leaksnoop
    harness.check_refusal(run("watch", "--user", "no-such-user"), "user", status=2, hint=False)
    harness.check_refusal(run("watch", "--history", tmp_path / "no" / "such" / "h.db"), "cannot make the folder", hint=False)
    harness.check_refusal(run("watch", "--no-history", "--listen", "nowhere:at:all"), "listen|address|nowhere", status=2, hint=False)
    with Watch(tmp_path / "h.db", "--comm", "nothing-is-called-so") as watch:
        watch.read_for(2)
        second = run("watch", "--history", tmp_path / "h.db", "--comm", "nothing-is-called-so")
        assert second.status == 1 and str(watch.pid) in second.stderr, second
        assert watch.end() == 0
