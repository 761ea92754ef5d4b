# SPDX-License-Identifier: MIT
"""Maps and unmaps memory as fast as it can. Says "ready", then runs for ever."""

import mmap

import targetlib

targetlib.begin()
targetlib.say("ready")
while True:
    mmap.mmap(-1, 1 << 20).close()
