# SPDX-License-Identifier: MIT
"""A heap that was large and is nearly empty: a few objects keep most arenas. On go it prints its own counts to standard error and sleeps.

    fragmented.py [--objects N] [--keep SHARE] [--garbage N] [WORD]...

Says "kept <how many Sessions>" before "ready". Between its counts and the sleep nothing is allocated or freed. --garbage overwrites the
headers of N pools, full of objects that it keeps and does not touch again, and says "garbage <how many>".
"""

import argparse
import ctypes
import gc
import os
import random
import sys
import time

import targetlib


class Session:
    __slots__ = ("number", "name", "path")


# A name that a report must make harmless.
Rude = type("Rude\u202e", (), {"__slots__": ("number",)})


def fill(objects, keep):
    kept = []
    rnd = random.Random(5)
    for number in range(objects):
        session = Session()
        session.number, session.name, session.path = number + 1000, "session %d" % number, [number]
        kept.append(session)
        if number % 1000 == 0:
            kept.append(Rude())
    return [session for session in kept if rnd.random() < keep]


def spoil(pools):
    """Garbage over the headers of pools in which every block is in use, so that pymalloc has no business with them."""
    size = 16384 if sys.version_info >= (3, 10) else 4096
    blocks = [bytes(400) for _ in range(40 * (pools + 4))]
    count = {}
    for block in blocks:
        pool = id(block) & ~(size - 1)
        count[pool] = count.get(pool, 0) + 1
    full = max(count.values())
    chosen = [pool for pool in sorted(count) if count[pool] == full][:pools]
    for index, pool in enumerate(chosen):
        # counts and size classes that cannot be, and a free list that leads into itself
        ctypes.memset(pool, 0xFF if index % 2 else 0x7F, 48)
    targetlib.say("garbage %d" % len(chosen))
    return blocks


def tell(stats=sys._debugmallocstats, write=os.write, sleep=time.sleep):
    stats()
    write(1, b"done\n")
    sleep(3600)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=60000)
    parser.add_argument("--keep", type=float, default=0.004)
    parser.add_argument("--garbage", type=int, default=0)
    parser.add_argument("words", nargs="*", help="for the command line to be long or rude")
    options = parser.parse_args()
    targetlib.begin()
    reader = targetlib.prepare_go()
    kept = fill(options.objects, options.keep)
    gc.collect()
    gc.disable()
    targetlib.say("kept %d" % sum(type(item) is Session for item in kept))
    spoilt = spoil(options.garbage) if options.garbage else None
    targetlib.say("ready")
    targetlib.wait_for_go(reader)
    tell()
    os._exit(kept is spoilt)


if __name__ == "__main__":
    main()
