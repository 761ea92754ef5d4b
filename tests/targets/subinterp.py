# SPDX-License-Identifier: MIT
"""Sub-interpreters, each with code and a thread of its own, which leak (subinterp_leak.py); the main one leaks a little too.

    subinterp.py [--interpreters N] [--seconds S]

Uses what the version has: _xxsubinterpreters (3.8 to 3.12), _interpreters
(3.13), concurrent.interpreters (3.14+). From 3.12 each has a GIL of its own.
Says "interpreters N" before "ready".
"""

import argparse
import os
import sys
import threading
import time

import targetlib

SOURCE = """
import os, sys
path = {path!r}
names = {{"__name__": "subinterp_leak", "__file__": path}}
with open(path, encoding="utf-8") as file:
    exec(compile(file.read(), path, "exec"), names)
names["run"]({fd}, {size}, {seconds})
"""

kept = []


def make_runner():
    """A function that creates an interpreter and returns one that runs source text in it."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return lambda: interpreters.create().exec
    if sys.version_info >= (3, 13):
        import _interpreters

        def create():
            number = _interpreters.create()
            return lambda source: _interpreters.exec(number, source)

        return create
    import _xxsubinterpreters

    # 3.9 to 3.11 refuse threads in an isolated one; 3.8 has no such choice, and in 3.12 isolated means a GIL of its own.
    options = {"isolated": False} if (3, 9) <= sys.version_info < (3, 12) else {}

    def create_old():
        number = _xxsubinterpreters.create(**options)
        return lambda source: _xxsubinterpreters.run_string(number, source)

    return create_old


def run_in(execute, source):
    error = execute(source)
    if error is not None:
        targetlib.say("WRONG in sub-interpreter: %s" % (error,))
        os._exit(3)


def leak_in_main(size):
    kept.append(bytes(size))  # LEAK main interpreter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--interpreters", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    targetlib.begin()
    reader, writer = os.pipe()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "subinterp_leak.py")
    create = make_runner()
    executes = [create() for _ in range(options.interpreters)]
    threads = []
    for index, execute in enumerate(executes):
        source = SOURCE.format(path=path, fd=writer, size=3000 + 100 * index, seconds=options.seconds)
        threads.append(threading.Thread(target=run_in, args=(execute, source), daemon=True))
        threads[-1].start()
    for _ in threads:
        os.read(reader, 1)
    targetlib.say("interpreters %d" % len(threads))
    targetlib.say("ready")
    deadline = time.monotonic() + options.seconds
    while time.monotonic() < deadline:
        leak_in_main(5000)
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    targetlib.stay()


if __name__ == "__main__":
    main()
