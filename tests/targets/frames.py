# SPDX-License-Identifier: MIT
"""The program of "right lines": allocates at places reached in every way Python code can be reached.

At each place it calls probe(tag), which allocates and keeps one large block
(bytes: the raw path) and one small (a tuple: pymalloc), each from a line of its
own and each at a traceback nothing else allocates at, and writes down the stack
of that very moment from sys._current_frames(). Starts at go; writes

    [{"tag", "blocks": 1, "bytes": 2081, "stack": [[file, line, function], ...]}, ...]

innermost frame first, to --out, then says "done". function is co_qualname
(3.11+) or co_name; line is 0 where the frame has none.

    frames.py --out FILE [--only TAG]...

The truth about lines is frame.f_lineno at the moment of the allocation: for
expressions of several lines the versions differ, and all of them are right.
"""

import argparse
import itertools
import json
import sys
import threading

import frames_callbacks  # noqa: F401 (registers its places)
import frames_places  # noqa: F401
import frames_registry
import targetlib

MAX_PROBES = 120  # bytes of the largest stay under glibc's mmap threshold
ZERO = b"\0"  # repeated rather than bytes(size): to call a type makes a tuple of arguments, which may stay on its free list
SMALL_HEAD = tuple.__basicsize__ + 16  # with the header of the garbage collector

kept = [None] * (2 * MAX_PROBES)
truth = []
slots = itertools.count()
only = set()


def stack_here():
    """The caller's stack, innermost first."""
    frame = sys._current_frames()[threading.get_ident()].f_back
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append([code.co_filename, frame.f_lineno or 0, getattr(code, "co_qualname", code.co_name)])
        frame = frame.f_back
    return stack


def note(tag, blocks, size, stack):
    truth.append({"tag": tag, "blocks": blocks, "bytes": size, "stack": stack})


def probe(tag):
    """The place where every traceback ends. Called once a tag, so that each of its tracebacks is unique."""
    if only and tag not in only:
        return tag
    slot = next(slots)
    size = 2048 + 1024 * slot
    half = (None,) * (11 + slot % 15)  # a tuple of less than 20 could come from a free list
    kept[2 * slot], large = ZERO * size, stack_here()
    kept[2 * slot + 1], small = half * 2, stack_here()
    note(tag + "/large", 1, size + bytes.__basicsize__, large)
    note(tag + "/small", 1, SMALL_HEAD + 16 * len(half), small)
    return tag


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--only", action="append", default=[], metavar="TAG")
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    go = targetlib.prepare_go()
    stack_here()  # takes what frames are cached in before a tracer looks
    only.update(options.only)
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    frames_registry.visit_all(probe)
    targetlib.write_whole(options.out, json.dumps(truth))
    targetlib.say("places %d" % len(truth))
    targetlib.stay()


if __name__ == "__main__":
    main()
