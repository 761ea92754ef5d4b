# SPDX-License-Identifier: MIT
"""Places of frames.py reached by Python code: calls, generators, coroutines, threads, expressions of several lines.

A place is added by writing a function with @place. Tags are unique. Those that
C code calls stand in frames_callbacks.py; what only newer versions can parse,
or what is generated, in frames_source.py.
"""

import asyncio
import contextlib
import functools
import threading

import frames_source
from frames_registry import place

generated_code = []


# Plain calls.

@place
def plain(probe):
    probe("plain")


def descend(probe, depth):
    if depth % 10 == 0:
        probe("depth-%d" % depth)
    if depth > 1:
        return descend(probe, depth - 1)
    return probe("deepest")


@place
def recursion(probe):
    descend(probe, 30)


def mutual_even(probe, n):
    return probe("mutual") if n == 0 else mutual_odd(probe, n - 1)


def mutual_odd(probe, n):
    return mutual_even(probe, n - 1)


@place
def mutual_recursion(probe):
    mutual_even(probe, 30)


@place
def two_calls_one_line(probe):
    probe("left"), (lambda: probe("right"))()


@place
def keyword_and_star(probe):
    def takes(*args, **keywords):
        return probe(*args, **keywords)
    takes(*["star"])
    takes(**{"tag": "double-star"})


@place
def default_argument(probe):
    def with_default(value=probe("default")):
        return value
    with_default()


# Generators.

def generator(probe, tag):
    yield 1
    probe(tag)
    yield 2


def delegating(probe, tag, depth):
    if depth:
        yield from delegating(probe, tag, depth - 1)
    else:
        yield from generator(probe, tag)


@place
def generators(probe):
    for _ in generator(probe, "generator"):
        pass
    list(generator(probe, "generator-from-c"))
    for _ in delegating(probe, "yield-from", 4):
        pass
    suspended = generator(probe, "generator-resumed-elsewhere")
    next(suspended)
    resume(suspended)


def resume(suspended):
    return next(suspended)


@place
def generator_thrown(probe):
    def catches():
        try:
            yield 1
        except ValueError:
            probe("thrown")
            yield 2
    it = catches()
    next(it)
    it.throw(ValueError())


@place
def generator_closed(probe):
    def cleans():
        try:
            yield 1
        finally:
            probe("closed")
    it = cleans()
    next(it)
    it.close()


# Coroutines.

class Awaitable:
    """Awaited through an iterator of its own."""

    def __init__(self, probe):
        self.probe = probe

    def __await__(self):
        yield
        self.probe("await-dunder")


async def inner_coroutine(probe):
    await Awaitable(probe)
    probe("raw-await")


async def outer_coroutine(probe):
    await inner_coroutine(probe)
    probe("raw-await-outer")


@place
def raw_await(probe):
    coroutine = outer_coroutine(probe)
    coroutine.send(None)
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


async def task_one(probe):
    await asyncio.sleep(0.001)
    probe("task-one")


async def task_two(probe):
    await asyncio.sleep(0.001)
    probe("task-two")


async def async_generator(probe):
    yield 1
    await asyncio.sleep(0)
    probe("async-generator")
    yield 2


async def async_main(probe):
    probe("asyncio-main")
    await asyncio.gather(task_one(probe), task_two(probe))
    async for _ in async_generator(probe):
        pass
    [probe("async-comprehension") async for x in async_generator(lambda _: None) if x == 1]
    async with AsyncManager(probe):
        pass
    asyncio.get_running_loop().call_soon(probe, "call-soon")
    await asyncio.get_running_loop().run_in_executor(None, probe, "executor")


class AsyncManager:
    def __init__(self, probe):
        self.probe = probe

    async def __aenter__(self):
        self.probe("aenter")

    async def __aexit__(self, *_):
        self.probe("aexit")


@place
def asyncio_run(probe):
    asyncio.run(async_main(probe))


# Comprehensions: frames of their own up to 3.11, inlined from 3.12 (PEP 709).

@place
def comprehensions(probe):
    [probe("list-comprehension") for _ in (1,)]
    {probe("dict-comprehension"): 1 for _ in (1,)}
    {probe("set-comprehension") for _ in (1,)}
    list(probe("generator-expression") for _ in (1,))
    [[probe("nested-comprehension") for _ in (1,)]
     for _ in (1,)]
    [
        x
        for x in (1,)
        if probe("comprehension-condition")
    ]


# Functions made of functions.

def decorated_by(wrapper):
    def decorate(function):
        @functools.wraps(function)
        def call(*args):
            return wrapper(function, *args)
        return call
    return decorate


@decorated_by(lambda function, *args: function(*args))
@functools.lru_cache(maxsize=None)
def decorated(probe):
    return probe("decorated")


@place
def decorators(probe):
    decorated(probe)

    @probe_at_decoration(probe, "decorator-line")
    @functools.lru_cache()
    def unused():
        pass


def probe_at_decoration(probe, tag):
    def decorate(function):
        probe(tag)
        return function
    return decorate


@place
def lambdas(probe):
    (lambda: (lambda: probe("lambda"))())()
    functools.partial(probe, "partial")()


@place
def closures(probe):
    def outer():
        def inner():
            return probe("closure")
        return inner
    outer()()


# Context managers.

@contextlib.contextmanager
def managed(probe, tag):
    probe(tag + "-enter")
    yield
    probe(tag + "-exit")


class Manager:
    def __init__(self, probe, tag):
        self.probe, self.tag = probe, tag

    def __enter__(self):
        self.probe(self.tag + "-enter")

    def __exit__(self, *_):
        self.probe(self.tag + "-exit")


@place
def context_managers(probe):
    with managed(probe, "contextmanager"):
        pass
    with Manager(probe, "with"):
        pass
    with_two_lines(probe)


def with_two_lines(probe):
    with contextlib.suppress(ValueError), \
            Manager(probe, "with-second-line"):
        pass


@place
def exceptions(probe):
    try:
        raise KeyError(probe("raise"))
    except KeyError:
        probe("except")
    finally:
        probe("finally")


# Threads: each at a place of its own, all alive at once.

def thread_one(probe, meet):
    meet.wait()
    probe("thread-one")
    meet.wait()


def thread_two(probe, meet):
    meet.wait()
    descend_in_thread(probe, 12)
    meet.wait()


def thread_three(probe, meet):
    for _ in generator(probe, "thread-generator"):
        meet.wait()


def descend_in_thread(probe, depth):
    return descend_in_thread(probe, depth - 1) if depth else probe("thread-deep")


@place
def threads(probe):
    meet = threading.Barrier(4)
    alive = [threading.Thread(target=target, args=(probe, meet)) for target in (thread_one, thread_two, thread_three)]
    for thread in alive:
        thread.start()
    meet.wait()
    probe("thread-main")
    meet.wait()
    for thread in alive:
        thread.join()


# Expressions of several lines.

@place
def multi_line(probe):
    dict(
        a=1,
        b=probe(
            "multi-line-argument"
        ),
    )
    value = (
        1
        if not probe("multi-line-condition")
        else
        probe("multi-line-else")
    )
    (str(value)
     .replace(
         "a", probe("method-chain"))
     .strip())
    text = f"""
    {value}
    {probe("f-string")}
    """
    assert 1 < len(text) < len(
        probe("chained-comparison") * 1000
    )
    for _ in (
            probe("for-iterable"),
    ):
        pass
    return {
        "a": 1,
        "b": probe("dict-display"),
    }


# Generated code.

@place
def evaluated(probe):
    names = {"probe": probe}
    exec("probe('exec')", names)
    eval("\n\n(lambda:\n  probe('eval'))()", names)


@place
def generated(probe):
    for source, file, name in frames_source.all_sources():
        names = {"probe": probe}
        exec(compile(source, file, "exec"), names)
        names[name]()
        generated_code.append(names)  # lives on: what becomes of names in freed code is reuse_code.py's question
