# SPDX-License-Identifier: MIT
"""A prefork server: the parent only waits, its children do the work and leak. Says "child PID" for each, then "ready".

    prefork.py [--children N]

The children end with their parent, however it ends.
"""

import argparse
import contextlib
import os
import signal
import time

import targetlib

kept = []


def serve(parent):
    check = targetlib.Check()
    while os.getppid() == parent:
        kept.append(bytes(2000))  # the leak
        if len(kept) % 50 == 0 and not check.run():
            os._exit(3)
        time.sleep(0.002)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--children", type=int, default=3)
    count = parser.parse_args().children
    targetlib.begin()
    parent = os.getpid()
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            serve(parent)
        children.append(pid)
        targetlib.say("child %d" % pid)

    def stop(*_):
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    targetlib.say("ready")
    while True:
        pid, status = os.wait()
        targetlib.say("WRONG child %d ended: status %#x" % (pid, status))
        os._exit(3)


if __name__ == "__main__":
    main()
