# SPDX-License-Identifier: MIT
"""Leaks things whose memory comes from CPython's free lists, where an innocent line has just put it.

    free_lists.py [--rounds N] [--tracer before|after]

Each round one line makes and drops more things of each kind than any version's
free list holds; then other lines, one a kind, keep EACH of them. --tracer
installs a reference tracer of the program's own (3.13+), before "ready" or
after the go. Says "kept <things a kind>" before done.
"""

import argparse
import ctypes

import targetlib

EACH = 20
HALF = 0.5
ONE = 1


def innocent():
    dicts = [{"first": None, "second": None} for _ in range(100)]  # INNOCENT dict
    lists = [[None] for _ in range(100)]  # INNOCENT list
    floats = [HALF * 3 for _ in range(120)]  # INNOCENT float
    tuples = [(index, None) for index in range(100)]  # INNOCENT tuple
    del dicts, lists, floats, tuples


def keep_dicts(out):
    for i in range(EACH):
        out[i] = {"third": None}  # LEAK dict


def keep_lists(out):
    for i in range(EACH):
        out[i] = [None]  # LEAK list


def keep_floats(out):
    for i in range(EACH):
        out[i] = HALF * 5  # LEAK float


def keep_tuples(out):
    for i in range(EACH):
        out[i] = (out, None)  # LEAK tuple


def leak(rounds):
    """Returns what keeps everything alive."""
    kept = []
    for _ in range(rounds):
        for keep in (keep_dicts, keep_lists, keep_floats, keep_tuples):
            out = [None] * EACH
            innocent()
            keep(out)
            kept.append(out)
    return kept


def install_tracer():
    """A function of the interpreter that does nothing with its arguments stands in for one of a tool."""
    set_tracer = ctypes.pythonapi.PyRefTracer_SetTracer
    set_tracer.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    assert set_tracer(ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p), None) == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--tracer", choices=["before", "after"])
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    go = targetlib.prepare_go()
    if options.tracer == "before":
        install_tracer()
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    if options.tracer == "after":
        install_tracer()
    kept = leak(options.rounds)
    targetlib.say("kept %d" % (options.rounds * EACH))
    targetlib.stay()
    del kept  # never reached: it lives until the end


if __name__ == "__main__":
    main()
