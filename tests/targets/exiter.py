# SPDX-License-Identifier: MIT
"""Allocates without a pause, and exits 0 (3 if a result was wrong) a random while after go.

    exiter.py [--max-ms N] [--seed N] [--how return|exit|_exit|abort]
"""

import argparse
import os
import random
import sys
import time

import targetlib

kept = []


def allocate_until(deadline, check):
    while time.monotonic() < deadline:
        kept.append([bytes(600), {"key": len(kept)}])
        if len(kept) % 1000 == 0 and not check.run():
            os._exit(3)


def leave(how):
    if how == "_exit":
        os._exit(0)
    if how == "abort":
        os.abort()
    if how == "exit":
        sys.exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-ms", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--how", choices=["return", "exit", "_exit", "abort"], default="return")
    options = parser.parse_args()
    delay = random.Random(options.seed).random() * options.max_ms / 1000
    targetlib.quiet_signals()
    check = targetlib.begin()
    go = targetlib.prepare_go()
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    allocate_until(time.monotonic() + delay, check)
    leave(options.how)


if __name__ == "__main__":
    main()
