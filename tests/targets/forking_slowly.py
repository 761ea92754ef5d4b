# SPDX-License-Identifier: MIT
"""At go forks children that compute and live on, 0.3 s apart; says "child PID" for each. The test kills them."""

import os
import time

import targetlib


def main():
    targetlib.quiet_signals()
    check = targetlib.begin()
    go = targetlib.prepare_go()
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    parent = os.getpid()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            while os.getppid() == parent and check.run():
                time.sleep(0.05)
            os._exit(0)
        targetlib.say("child %d" % pid)
        time.sleep(0.3)
    targetlib.stay()


if __name__ == "__main__":
    main()
