#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that includes point upstream only.

A file of user/FOLDER may include headers of its own folder and of those before
it in ORDER, and of bpf/ only event.h, control.h and finder.h. The spine, user/pipeline.*,
stands between report and cmd; user/main.c may include everything. bpf/ includes
nothing of user/.

Prints file:line: reason for each offence; exits 1 if there was one. With
--self-contained it also compiles every header of user/ on its own.
"""

import os
import re
import subprocess
import sys

ORDER = ["base", "target", "interp", "trace", "track", "heap", "diagnose", "report", "pipeline", "cmd"]
BORDER = {"bpf/event.h", "bpf/control.h", "bpf/finder.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def sources(top):
    """Every C file under `top`, relative to the repository, in a stable order."""
    for folder, folders, names in os.walk(os.path.join(ROOT, top)):
        folders.sort()
        for name in sorted(names):
            if name.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def resolve(path, included):
    """The repository path an include means: beside the file, else under user/, else under the root; None if generated."""
    for base in (os.path.dirname(path), "user", ""):
        candidate = os.path.normpath(os.path.join(base, included))
        if os.path.exists(os.path.join(ROOT, candidate)):
            return candidate
    return None


def rank(path):
    """Where a file of user/ stands in ORDER; None if its folder is not known."""
    name = path.split("/")[1]
    if name.startswith("main."):
        return len(ORDER)
    name = "pipeline" if name.startswith("pipeline.") else name
    return ORDER.index(name) if name in ORDER else None


def offence_in_user(path, target):
    if target.startswith("bpf/"):
        return None if target in BORDER else "only event.h, control.h and finder.h of bpf/ cross the border, not " + target
    if target.startswith("vmlinux/"):
        return "vmlinux/ belongs to the BPF side"
    if not target.startswith("user/"):
        return target + " lies outside user/"
    mine, theirs = rank(path), rank(target)
    if mine is None or theirs is None:
        return "folder not in the order: " + " ".join(ORDER)
    if theirs > mine:
        return "%s comes after %s in the data flow" % (target, ORDER[mine])
    return None


def offence_in_bpf(_path, target):
    return "bpf/ includes nothing of user/" if target.startswith("user/") else None


def check(top, offence):
    bad = 0
    for path in sources(top):
        with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                match = INCLUDE.match(line)
                target = match and resolve(path, match.group(1))
                reason = target and offence(path, target)
                if reason:
                    print("%s:%d: %s" % (path, number, reason))
                    bad += 1
    return bad


def check_self_contained():
    bad = 0
    for path in sources("user"):
        if path.endswith(".h") and not path.endswith("_table.h"):  # generated data, included by its one user
            command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Iuser", "-I.", "-Wall", "-fsyntax-only", "-x", "c",
                       "-include", path, os.devnull]
            done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, universal_newlines=True)
            if done.returncode:
                print("%s:1: does not compile on its own\n%s" % (path, done.stderr), end="")
                bad += 1
    return bad


def main():
    bad = check("user", offence_in_user) + check("bpf", offence_in_bpf)
    if "--self-contained" in sys.argv[1:]:
        bad += check_self_contained()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
