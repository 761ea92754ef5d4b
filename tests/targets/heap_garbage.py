# SPDX-License-Identifier: MIT
"""A program that has written garbage over its own objects, as a broken C extension does: types, sizes, pointers, key tables.

The objects are never touched again: nothing is collected, nothing is freed, and the program ends without taking anything apart.
Says "ready", then stays. --seed N chooses the garbage.
"""

import argparse
import collections
import ctypes
import gc
import random
import struct
import sys

import targetlib

WORD = 8
VICTIMS = 150


class Victim:
    def __init__(self, number):
        self.number = number


class Slotted:
    __slots__ = ("a", "b")


class Intact:
    def __init__(self, number):
        self.number = number


MAKERS = [
    lambda i: Victim(i), lambda i: Slotted(), lambda i: [i] * (i % 90), lambda i: (i, i, i), lambda i: {i: i, "a": i}, lambda i: {i, i + 1, i + 2},
    lambda i: "text %d" % i * (i % 30 + 1), lambda i: b"bytes %d" % i * (i % 30 + 1), lambda i: bytearray(i * 11 + 1), lambda i: i + 0.5,
    lambda i: 10 ** (i + 20), lambda i: collections.deque(range(i)), lambda i: frozenset(range(i + 1)), lambda i: collections.OrderedDict(a=i),
    lambda i: type("Type%d" % i, (), {}) if i % 10 == 0 else memoryview(b"x" * i), lambda i: bytearray(5000 + i), lambda i: "\u0434" * (600 + i),
]


def garbage(rng, address):
    """A word of the kinds that lead a reader astray."""
    return rng.choice([
        rng.getrandbits(64), 2 ** 64 - 1, 0, 2 ** 62, 2 ** 63, address, address + WORD, address & ~0xfff, rng.getrandbits(47), id(Victim), id(type),
        rng.getrandbits(16), id(None), 0xffffffffff600000, 2 ** 47 - 4096,
    ])


def own_size(thing):
    """Bytes of its own block behind its address: what the type says, or less where str and int are shorter than that."""
    head = 16 if gc.is_tracked(thing) else 0
    return min(type(thing).__basicsize__, sys.getsizeof(thing) - head)


def spoil(rng, thing):
    """The type alone, or what stands behind it, or both."""
    words = own_size(thing) // WORD
    chosen = rng.choice([[1], range(2, words), range(1, words)])
    address = id(thing)
    for index in chosen:
        if index == 1 or rng.random() < 0.6:
            ctypes.memmove(address + index * WORD, struct.pack("<Q", garbage(rng, address)), WORD)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    rng = random.Random(parser.parse_args().seed)
    targetlib.begin()
    targetlib.quiet_signals()
    intact = [Intact(i) for i in range(1234)]
    makers = [maker for maker in MAKERS for _ in range(VICTIMS)]
    rng.shuffle(makers)
    victims = [maker(i % VICTIMS) for i, maker in enumerate(makers)]
    gc.collect()
    gc.disable()
    gc.freeze()
    for thing in victims:
        spoil(rng, thing)
    assert intact
    targetlib.stay("ready")


if __name__ == "__main__":
    main()
