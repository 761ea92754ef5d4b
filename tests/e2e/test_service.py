# SPDX-License-Identifier: MIT
"""Tracing with the capabilities of packaging/leaksnoop.service and no others, in a mount namespace like its own: targets of root, of another user,
in their own namespaces, and with a library that is gone."""

import contextlib
import json
import os
import re
import shutil
import subprocess

import pytest

import harness
from watching import FOUND_SECONDS, Watch, first_line, history

UNIT = harness.ROOT / "packaging" / "leaksnoop.service"
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
# As the unit's ProtectSystem=strict: the file system read-only, /proc and /sys as they are.
SANDBOX = ("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh")


def unit_setting(name):
    return re.search(r"^%s=(.*)$" % name, UNIT.read_text(), re.M).group(1)


def capabilities():
    return unit_setting("CapabilityBoundingSet").split()


def as_service(without=()):
    """What a command begins with to have the service's capabilities and its view of the file system."""
    kept = ["+" + name.removeprefix("CAP_").lower() for name in capabilities() if name not in without]
    return [*SANDBOX, "setpriv", "--bounding-set", ",".join(["-all", *kept]), "--inh-caps", "-all", "--no-new-privs"]


def attach(pid, *args, without=()):
    """leaksnoop attach as the service would."""
    command = [*as_service(without), str(harness.BINARY), "attach", str(pid), "--duration", "2", "--format", "json", *args]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, text=True)
    return harness.Result(done.returncode, done.stdout, done.stderr)


def check_sampled(result):
    report = result.report
    assert report["window"]["armed_seconds"] > 0, report["window"]
    assert report["coverage"]["seen"] > 0 and not any("mmap" in note for note in report["coverage"]["notes"]), report["coverage"]
    return report


@contextlib.contextmanager
def visible_targets(tmp_path, owner=0, mode=0o755):
    """The target programs where another user can reach them."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    place = tmp_path / "app"
    shutil.copytree(harness.TARGETS, place, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    os.chown(place, owner, owner)
    place.chmod(mode)
    yield place


def target(place, *prefix, command=("/usr/bin/python3",), env=None):
    return harness.Target(harness.Interpreter("service-3", list(command)), str(place / "leaky_service.py"), "--rate", 500, "--duration", 600,
                          prefix=prefix, env=env)


def python_of(started):
    """The PID of the Python itself, below whatever starts it."""
    pid = started.pid
    while children := open("/proc/%d/task/%d/children" % (pid, pid)).read().split():
        pid = int(children[0])
    return pid


def test_unit_is_well_formed(tmp_path):
    """systemd finds no fault with it, as make install makes it."""
    subprocess.run(["make", "-s", "-o", "all", "install", "DESTDIR=%s" % tmp_path, "PREFIX=/usr/local", "B=build"], cwd=harness.ROOT, check=True)
    unit = tmp_path / "usr/local/lib/systemd/system/leaksnoop.service"
    assert "ExecStart=/usr/local/sbin/leaksnoop watch " in unit.read_text() and (tmp_path / "usr/local/sbin/leaksnoop").exists()
    unit.write_text(unit.read_text().replace("/usr/local/sbin/leaksnoop", "%s/usr/local/sbin/leaksnoop" % tmp_path))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert unit_setting("Type") == "notify" and unit_setting("NoNewPrivileges") == "yes"


def test_one_list_of_capabilities():
    """What the unit gives, what watch keeps and what the documentation explains is the same."""
    header = (harness.ROOT / "user/cmd/service.h").read_text()
    table = (harness.ROOT / "docs/service.md").read_text().split("## Capabilities")[1]
    assert capabilities() == ["CAP_" + name for name in re.findall(r"^\tX\((\w+), ", header, re.M)]
    assert capabilities() == re.findall(r"^\| `(CAP_\w+)` \|", table, re.M)


def test_root(leaky):
    check_sampled(attach(leaky.pid))


def host_namespace():
    with contextlib.suppress(PermissionError):
        return os.readlink("/proc/1/ns/mnt")
    return "mnt:[%d]" % 0xEFFFFFF8


def test_host_is_no_container(leaky):
    """In a mount namespace of its own, as the unit gives it, leaksnoop still takes the host for the host."""
    if os.readlink("/proc/%d/ns/mnt" % leaky.pid) != host_namespace():
        pytest.skip("needs to run in the host's mount namespace")
    done = subprocess.run([*SANDBOX, str(harness.BINARY), "ps", "--format", "json"], stdout=subprocess.PIPE, check=True)
    assert [row["container"] for row in json.loads(done.stdout)["processes"] if row["pid"] == leaky.pid] == [None]


def test_other_user(tmp_path):
    with visible_targets(tmp_path) as place, target(place, *NOBODY) as other:
        check_sampled(attach(other.pid))
        refusal = attach(other.pid, "--format", "text", without=["CAP_DAC_OVERRIDE"])
        harness.check_refusal(refusal, "memory of process %d for writing" % other.pid, hint=False)
        assert attach(other.pid, "--mode", "passive", without=["CAP_DAC_OVERRIDE"]).status == 0


def test_private_folder(tmp_path):
    """Program and interpreter where only their user can go."""
    with visible_targets(tmp_path, owner=65534, mode=0o700) as place:
        shutil.copy(os.path.realpath("/usr/bin/python3"), place / "python3")
        with target(place, *NOBODY, command=[str(place / "python3")], env={"PYTHONHOME": "/usr"}) as private:
            check_sampled(attach(private.pid))


def test_own_namespaces(tmp_path):
    """User, mount and PID namespaces of its own, made by another user."""
    with visible_targets(tmp_path) as place, target(place, *NOBODY, *NAMESPACES) as starter:
        report = check_sampled(attach(python_of(starter)))
        assert report["target"]["container"].startswith("pid:[")


def libpython():
    """A plain build with a libpython of its own, and that library."""
    for interpreter in harness.interpreters():
        if interpreter.root == "/" and interpreter.is_plain:
            prefix = os.path.dirname(os.path.dirname(interpreter.command[0]))
            name = "libpython3.%d.so.1.0" % interpreter.version[1]
            if os.path.exists(os.path.join(prefix, "lib", name)):
                return interpreter, os.path.join(prefix, "lib", name)
    pytest.skip("needs a plain Python built with --enable-shared (scripts/pythons.sh)")


def test_deleted_library(tmp_path):
    """As after an upgrade: the libpython it runs with is no file any more."""
    interpreter, library = libpython()
    copy = shutil.copy(library, tmp_path)
    with visible_targets(tmp_path) as place, target(place, command=interpreter.command, env={"LD_PRELOAD": copy}) as upgraded:
        os.unlink(copy)
        check_sampled(attach(upgraded.pid))
        harness.check_refusal(attach(upgraded.pid, "--format", "text", without=["CAP_CHECKPOINT_RESTORE"]), "no permission to open its program")


@pytest.mark.parametrize("name", ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"])
def test_without(leaky, name):
    """None of them is there for nothing."""
    words = "memory of process" if name == "CAP_SYS_PTRACE" else "load BPF programs"
    harness.check_refusal(attach(leaky.pid, "--format", "text", without=[name]), words)


def test_watch(tmp_path):
    """The whole of watch: found, read from outside, sampled, kept. Its folder is mounted writable, as StateDirectory= is."""
    state = tmp_path / "state"
    state.mkdir()
    prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && exec "$@"', str(state), *as_service()]
    with visible_targets(tmp_path, owner=65534) as place, target(place, *NOBODY) as started:
        with Watch(state / "h.db", prefix=prefix, pids=[started.pid]) as watch:
            event = watch.wait(lambda e: e["verdict"] == "leak" and e["report"], FOUND_SECONDS)
            assert first_line(event["report"])[0] == "leaky_service.py"
            assert watch.end() == 0, watch.stderr()
            assert watch.stderr() == ""
        assert [p["target"]["pid"] for p in history(state / "h.db")["processes"]] == [started.pid]
