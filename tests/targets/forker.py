# SPDX-License-Identifier: MIT
"""Forks children under load; each computes, verifies and exits 0. Starts at go; says "OK forked N", or exits 3.

    forker.py [--children N] [--parallel N]

A thread of the parent allocates all the while, so that a fork falls into the
middle of an allocation of another thread; the child has only the forking one.
"""

import argparse
import os
import threading
import warnings

import targetlib


def load_for_ever(check, stop):
    while not stop.is_set():
        if not check.run():
            targetlib.say("WRONG in parent")
            os._exit(3)


def reap(pid):
    status = os.waitpid(pid, 0)[1]
    if status:
        targetlib.say("WRONG child %d: status %#x" % (pid, status))
        os._exit(3)


def fork_child(check):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if check.run() else 3)
    return pid


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--children", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+ warns of a fork with threads: that is the test
    targetlib.quiet_signals()
    check = targetlib.begin()
    go = targetlib.prepare_go()
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    stop = threading.Event()
    threading.Thread(target=load_for_ever, args=(check, stop), daemon=True).start()
    alive = []
    for _ in range(options.children):
        alive.append(fork_child(check))
        if len(alive) >= options.parallel:
            reap(alive.pop(0))
    for pid in alive:
        reap(pid)
    stop.set()
    targetlib.say("OK forked %d" % options.children)
    targetlib.stay()


if __name__ == "__main__":
    main()
