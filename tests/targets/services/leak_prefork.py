# SPDX-License-Identifier: MIT
"""a worker of a prefork server (the leak is in the worker)"""

import os
import signal

import service
import targetlib

ANSWERS = []


def leak(number):
    ANSWERS.append("answer %0600d" % number)  # LEAK


def handle(number):
    service.work(number)


def start_worker():
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        targetlib.say("worker %d" % os.getpid())
        service.serve(lambda number: handle(number) if os.getppid() == parent else os._exit(0), leak, rate=500, every=2)
    return pid


def main():
    objects = service.truth_wanted()
    if objects:
        return service.calibrate(leak, objects, [ANSWERS])
    service.ready()
    worker = start_worker()
    signal.signal(signal.SIGTERM, lambda *_: (os.kill(worker, signal.SIGKILL), os._exit(0)))
    return os.waitpid(worker, 0)


if __name__ == "__main__":
    main()
