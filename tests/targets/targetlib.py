# SPDX-License-Identifier: MIT
"""What the target programs share. Runs unchanged on CPython 3.8 to 3.15, standard library only.

The protocol between a target and its test, one line each on standard output:

    pid 4242        at once
    ready           everything is set up; a tracer may attach
    ...             what the program has to say
    done            it has done what it was told to; it stays until SIGTERM

    SIGUSR1, or a line on standard input: go (programs that wait for it)
    SIGUSR2: compute something checkable and answer "OK <checksum>", or exit 3
"""

import hashlib
import os
import select
import signal
import sys
import time


def say(text):
    """One line, past the buffers of sys.stdout: also from a signal handler, a thread or a forked child."""
    os.write(1, (text + "\n").encode("utf-8", "backslashreplace"))


def work(rounds=200):
    """Allocates objects of many kinds and sizes and returns a checksum over what they hold: always the same one."""
    digest = hashlib.sha256()
    for i in range(rounds):
        item = {"index": i, "text": "x%d" % i * (i % 40), "list": [i + k / 2 for k in range(i % 50)], "raw": bytes(i * 7)}
        item["tuple"] = tuple(item["list"]) + (i,)
        item["set"] = {k % 13 for k in range(i)}
        buffer = bytearray()
        for piece in sorted(item["set"]):
            buffer += b"%d;" % piece * (i % 9)
        digest.update(item["text"].encode())
        digest.update(repr(item["tuple"]).encode())
        digest.update(item["raw"])
        digest.update(buffer)
    return digest.hexdigest()


class Check:
    """Remembers the right answer of work() from before any tracer came, and compares."""

    def __init__(self):
        self.expected = work()

    def run(self):
        return work() == self.expected

    def answer(self, *_signal):
        if not self.run():
            say("WRONG")
            os._exit(3)
        say("OK " + self.expected[:16])


def begin():
    """Says the PID and starts answering SIGUSR2."""
    say("pid %d" % os.getpid())
    check = Check()
    signal.signal(signal.SIGUSR2, check.answer)
    return check


def prepare_go():
    """Arms the SIGUSR1 side of wait_for_go(); before "ready" is said."""
    reader, writer = os.pipe()
    signal.signal(signal.SIGUSR1, lambda *_: os.write(writer, b"g"))
    return reader


def wait_for_go(reader):
    """Returns at SIGUSR1 or when a line comes on standard input; an input at its end counts for nothing."""
    inputs = [reader, 0]
    while True:
        for fd in select.select(inputs, [], [])[0]:
            if os.read(fd, 4096):
                return
            inputs.remove(fd)


def stay(text="done"):
    """Says so, and sleeps until it is killed."""
    say(text)
    while True:
        time.sleep(3600)


def write_whole(path, text):
    """Writes a file so that a reader sees all of it or none."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)


def quiet_signals():
    """SIGTERM and SIGINT end a target at once and without a traceback."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


if sys.version_info < (3, 8):
    say("this target needs Python 3.8")
    sys.exit(2)
