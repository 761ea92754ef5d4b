# SPDX-License-Identifier: MIT
"""A process that blocks: its main thread in a read on a pipe nobody writes to, another one on a lock nobody gives back.

Signals interrupt the read; the interpreter runs the handler of SIGUSR2 and reads on (PEP 475).
"""

import os
import threading

import targetlib


def main():
    targetlib.quiet_signals()
    targetlib.begin()
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    reader, _writer = os.pipe()
    targetlib.say("ready")
    os.read(reader, 1)


if __name__ == "__main__":
    main()
