# SPDX-License-Identifier: MIT
"""packaging/leaksnoop.service under a real systemd: a user manager of root's, which makes the unit's namespaces, filters and capabilities just as
the system's would, and needs no boot. Only its directories are elsewhere."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

import harness
from harness import Target
from prometheus import free_port
from watching import FOUND_SECONDS, history

SYSTEMD = pathlib.Path("/usr/lib/systemd/systemd")
# What a booted system has: systemd looks for the first, and mounts the second over what a unit may not see. $1: a cgroup directory, or more.
BOOTED = """
for group; do echo $$ >"$group/cgroup.procs" || exit; done
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir -p /run/systemd/system /run/systemd/inaccessible/dir || exit
cd /run/systemd/inaccessible && touch reg sock && mkfifo fifo && mknod chr c 0 0 && mknod blk b 0 0 && chmod 0 reg sock fifo chr blk || exit
cd / && exec %s --user --unit=basic.target
""" % SYSTEMD
DROP_IN = """[Service]
Environment="LEAKSNOOP_OPTIONS=--pid %d --settle 0.5 --interval 1 --host-budget 20"
RestartSec=1s
WatchdogSec=5s
"""


def cgroups():
    """The hierarchies that systemd keeps its units in."""
    found = []
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(pathlib.Path(place))
    return found


def remove_cgroup(group):
    for directory, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
            if not os.path.exists(directory):
                break
            time.sleep(0.1)


class Manager:
    """A systemd of our own. Use as a context; skips the test where it does not run."""

    def __init__(self, home):
        self.home = home
        self.env = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "SYSTEMD_LOG_TARGET": "console"}
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"):
            self.env.pop(name, None)
        (home / "run").mkdir(mode=0o700)
        self.groups = [place / home.name for place in cgroups()]
        self.log = open(home / "log", "w+b")

    def __enter__(self):
        for group in self.groups:
            group.mkdir()
        command = ["unshare", "--mount", "sh", "-c", BOOTED, "sh", *map(str, self.groups)]
        self.process = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 20
        while self.systemctl("list-units", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                pytest.skip("systemd does not run here: %s" % (self.home / "log").read_text(errors="replace")[-300:])
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for group in self.groups:
            remove_cgroup(group)
        self.log.close()

    def systemctl(self, *args, check=True):
        done = subprocess.run(["systemctl", "--user", *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stdout + self.systemctl("status", "leaksnoop", check=False).stdout
        return done

    def shows(self, name):
        return self.systemctl("show", "leaksnoop", "--property", name, "--value").stdout.strip()

    def wait_for(self, what, timeout):
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, self.systemctl("status", "leaksnoop", check=False).stdout
            time.sleep(0.2)


@pytest.fixture
def home():
    """Where the unit may find things: neither /tmp nor a home directory, which it does not see as they are."""
    path = pathlib.Path("/var/lib/leaksnoop-test-%d" % os.getpid())
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def install(home, pid, port):
    """The unit as `make install` makes it, its state and port elsewhere."""
    subprocess.run(["make", "-s", "-o", "all", "install", "DESTDIR=%s" % home, "PREFIX=/usr/local", "B=build"], cwd=harness.ROOT, check=True)
    shutil.copy(harness.BINARY, home / "usr/local/sbin/leaksnoop")
    units = home / ".config/systemd/user"
    (units / "leaksnoop.service.d").mkdir(parents=True)
    text = (home / "usr/local/lib/systemd/system/leaksnoop.service").read_text()
    text = text.replace("/usr/local/sbin/leaksnoop", "%s/usr/local/sbin/leaksnoop" % home)
    text = text.replace("/var/lib/leaksnoop/", "%S/leaksnoop/").replace("127.0.0.1:9464", "127.0.0.1:%d" % port)
    (units / "leaksnoop.service").write_text(text)
    (units / "leaksnoop.service.d" / "test.conf").write_text(DROP_IN % pid)


def capabilities_of(pid):
    status = pathlib.Path("/proc/%d/status" % pid).read_text()
    mask = int(re.search(r"^CapEff:\s*(\w+)$", status, re.M).group(1), 16)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.M) and re.search(r"^Seccomp:\s*2$", status, re.M), status
    return bin(mask).count("1")


@pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd")
def test_the_unit(home, python):
    port = free_port()
    with Target(python, "leaky_service.py", "--rate", "400") as target, Manager(home) as manager:
        install(home, target.pid, port)
        manager.systemctl("daemon-reload")
        manager.systemctl("start", "leaksnoop")  # returns when it says that it is ready
        first = int(manager.shows("MainPID"))
        unit = (home / ".config/systemd/user/leaksnoop.service").read_text()
        assert capabilities_of(first) == len(re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M).group(1).split())
        manager.wait_for(lambda: manager.shows("StatusText") == "Python processes: 1, of which leak: 1", FOUND_SECONDS)
        with urllib.request.urlopen("http://127.0.0.1:%d/healthz" % port, timeout=10) as page:
            assert page.status == 200
        manager.systemctl("reload", "leaksnoop")
        time.sleep(1)
        assert int(manager.shows("MainPID")) == first and manager.shows("NRestarts") == "0"

        os.kill(first, signal.SIGKILL)
        manager.wait_for(lambda: manager.shows("NRestarts") == "1" and manager.shows("ActiveState") == "active", 30)
        # not heard of any more
        os.kill(int(manager.shows("MainPID")), signal.SIGSTOP)
        manager.wait_for(lambda: manager.shows("NRestarts") == "2" and manager.shows("ActiveState") == "active", 60)
        last = int(manager.shows("MainPID"))
        manager.systemctl("stop", "leaksnoop")
        assert manager.shows("ActiveState") == "inactive" and manager.shows("Result") == "success"
        assert not os.path.exists("/proc/%d" % last)
        assert harness.Slots.of(target).armed() == [] and target.process.poll() is None

        kept = history(next(home.glob(".*/**/leaksnoop/history.db")))["processes"]
        assert [p["target"]["pid"] for p in kept] == [target.pid] and kept[0]["verdict"]["kind"] == "leak"
