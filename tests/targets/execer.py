# SPDX-License-Identifier: MIT
"""Replaces itself by exec, again and again, verifying its results each time. Starts at go; says "done" after the last.

    execer.py [--execs N] [--pause SECONDS]
"""

import argparse
import os
import sys
import time

import targetlib


def exec_again(execs, pause):
    command = [sys.executable, os.path.abspath(__file__), "--execs", str(execs), "--pause", str(pause), "--again"]
    os.execv(sys.executable, command)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--execs", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--again", action="store_true", help="not the first image of this process")
    options = parser.parse_args()
    targetlib.quiet_signals()
    check = targetlib.begin()
    if not options.again:
        go = targetlib.prepare_go()
        targetlib.say("ready")
        targetlib.wait_for_go(go)
    if not check.run():
        targetlib.say("WRONG")
        sys.exit(3)
    targetlib.say("OK %d left" % options.execs)
    if options.execs == 0:
        targetlib.stay()
    time.sleep(options.pause)
    exec_again(options.execs - 1, options.pause)


if __name__ == "__main__":
    main()
