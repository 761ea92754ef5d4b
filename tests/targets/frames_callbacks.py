# SPDX-License-Identifier: MIT
"""Places of frames.py that C code calls: callbacks, special methods, class bodies, finalizers, signal handlers."""

import ctypes
import functools
import gc
import re
import signal
import weakref

from frames_registry import place


# Called from C.

def compare(probe, tag):
    def cmp(_a, _b):
        probe(tag)
        return 0
    return cmp


@place
def callbacks(probe):
    sorted([1], key=lambda _: probe("sort-key"))
    sorted([2, 1], key=functools.cmp_to_key(compare(probe, "cmp-to-key")))
    list(map(probe, ["map"]))
    list(filter(lambda _: probe("filter"), [1]))
    functools.reduce(lambda _a, _b: probe("reduce"), [1, 2])
    re.sub("x", lambda _: probe("re-sub"), "x")
    max([1], key=lambda _: probe("max-key"))


@place
def ctypes_callback(probe):
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda _: len(probe("ctypes")))
    callback(1)


@place
def qsort_callback(probe):
    """From C through C: libc's qsort calls back while the interpreter waits for it."""
    called = []

    def order(_a, _b):
        if not called:
            called.append(probe("qsort"))
        return 0

    order_c = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(order)
    ctypes.CDLL(None).qsort((ctypes.c_int * 2)(2, 1), ctypes.c_size_t(2), ctypes.c_size_t(4), order_c)


@place
def foreign_thread(probe):
    """A thread Python did not make: its state is made by the callback and ends with it."""
    def run(_argument):
        probe("foreign-thread")
        return 0

    start = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p)(run)
    libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, start, None)
    libc.pthread_join(thread, None)


class Special:
    """Reached through the slots of its type."""

    def __init__(self, probe):
        self.probe = probe

    def __getattr__(self, name):
        return self.probe("getattr-" + name)

    def __eq__(self, _other):
        return bool(self.probe("eq"))

    def __hash__(self):
        return len(self.probe("hash"))

    def __len__(self):
        return len(self.probe("len"))

    def __iter__(self):
        self.probe("iter")
        return iter(())

    def __call__(self):
        return self.probe("call")

    @property
    def computed(self):
        return self.probe("property")

    @staticmethod
    def static(probe):
        probe("staticmethod")

    @classmethod
    def of_class(cls, probe):
        probe("classmethod")


@place
def special_methods(probe):
    special = Special(probe)
    special.missing
    special.computed
    {special: 1}
    len(special)
    [special].index(1)
    for _ in special:
        pass
    special()
    special.static(probe)
    special.of_class(probe)


# Class bodies.

@place
def class_bodies(probe):
    class Body:
        probe("class-body")

        class Nested:
            probe("nested-class-body")

    class Base:
        def __init_subclass__(cls):
            probe("init-subclass")

    class Derived(Base):
        pass

    class Meta(type):
        def __new__(mcs, name, bases, names):
            probe("metaclass")
            return type.__new__(mcs, name, bases, names)

    class Made(metaclass=Meta):
        pass


# At the end of a life.

class Finalized:
    def __init__(self, probe, tag):
        self.probe, self.tag = probe, tag

    def __del__(self):
        self.probe(self.tag)


@place
def finalizers(probe):
    dying = Finalized(probe, "del")
    del dying
    cycle = Finalized(probe, "del-by-gc")
    cycle.itself = cycle
    del cycle
    gc.collect()
    watched = Special(probe)
    reference = weakref.ref(watched, lambda _: probe("weakref"))
    del watched
    del reference


@place
def signal_handler(probe):
    before = signal.signal(signal.SIGALRM, lambda *_: probe("signal"))
    signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
