# SPDX-License-Identifier: MIT
"""Threads which allocate, compute and verify without a pause. Says "OK <rounds> <checksum>" each second; exits 3 when wrong.

    busy_threads.py [--threads N]
"""

import argparse
import os
import sys
import threading
import time

import targetlib

rounds = [0]


def verify_for_ever(check):
    while True:
        if not check.run():
            targetlib.say("WRONG in " + threading.current_thread().name)
            os._exit(3)
        rounds[0] += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=4)
    threads = parser.parse_args().threads
    targetlib.quiet_signals()
    check = targetlib.begin()
    sys.setswitchinterval(0.001)
    for _ in range(threads):
        threading.Thread(target=verify_for_ever, args=(check,), daemon=True).start()
    targetlib.say("ready")
    while True:
        time.sleep(1)
        targetlib.say("OK %d %s" % (rounds[0], check.expected[:16]))


if __name__ == "__main__":
    main()
