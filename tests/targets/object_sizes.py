# SPDX-License-Identifier: MIT
"""Makes objects of every kind whose size is not just its type's, and says what sys.getsizeof() says of each.

One line each: "id size parts type". parts are the counted blocks that the object owns besides its own, as "kind:address:bytes"
where this program can tell them itself (through ctypes and sys.getsizeof), "-" where there are none for certain, "?" where it does not
know; "values" where there are values somewhere. Then "missing NAME" for each type of the interpreter that has a __sizeof__ of its own
and of which nothing was made, and "end". It stays until its input ends.

Runs on CPython 3.8 to 3.15, standard library only; numpy's types where numpy is installed.
"""

import array
import asyncio
import collections
import ctypes
import datetime
import decimal
import enum
import fractions
import functools
import gc
import io
import itertools
import json
import mmap
import operator
import os
import pickle
import queue
import random
import re
import struct
import sys
import threading
import time
import types
import uuid
import warnings
import weakref
import xml.etree.ElementTree as ElementTree

VERSION = sys.version_info[:2]
KEEP = []
warnings.simplefilter("ignore")


def add(*objects, parts="?"):
    for item in objects:
        KEEP.append((item, parts))


def word(address):
    return ctypes.c_uint64.from_address(address).value


def plus(item):
    """What sys.getsizeof() counts beside the object itself."""
    front = sys.getsizeof(item) - item.__sizeof__()
    return sys.getsizeof(item) - front - type(item).__basicsize__


# From the structs in CPython's headers, the same from 3.8 to 3.15 but for one.
def list_parts(item):
    return "list:%d:%d" % (word(id(item) + 24), plus(item)) if plus(item) else "-"


def set_parts(item):
    return "set:%d:%d" % (word(id(item) + 40), plus(item)) if plus(item) else "-"


def bytearray_parts(item):
    return "bytearray:%d:%d" % (word(id(item) + (56 if VERSION >= (3, 15) else 32)), plus(item)) if plus(item) else "-"


def dict_parts(item):
    """Of one whose table is its own, with no values beside."""
    if word(id(item) + 40) and plus(item):
        return "?"
    return "dict:%d:%d" % (word(id(item) + 32), plus(item)) if plus(item) else "-"


def deque_parts(item):
    return "deque:%d:%d" % (word(id(item) + 24), plus(item))


def str_parts(item):
    """Of a subclass: the text stands apart; there may be other forms of it."""
    data, head = (72, 80) if VERSION < (3, 12) else (56, 64)
    front = sys.getsizeof(item) - item.__sizeof__()
    return "str:%d:%d" % (word(id(item) + data), sys.getsizeof(item) - front - head)


def instance_parts(_item):
    return "values" if (3, 11) <= VERSION < (3, 13) else "-"


PARTS = {
    list: list_parts, set: set_parts, frozenset: set_parts, bytearray: bytearray_parts, dict: dict_parts, collections.deque: deque_parts,
    int: lambda _: "-", float: lambda _: "-", bytes: lambda _: "-", tuple: lambda _: "-", bool: lambda _: "-",
}


def parts_of(item, told):
    return PARTS[type(item)](item) if told == "?" and type(item) in PARTS else told(item) if callable(told) else told


# --- numbers


class Int(int):
    pass


class IntWithSlots(int):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1
    BIG = 1 << 70


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Float(float):
    pass


def numbers():
    for bits in list(range(0, 70)) + [89, 90, 91, 119, 120, 121, 1000, 4096, 100003]:
        add(1 << bits, -(1 << bits), (1 << bits) - 1, 1 - (1 << bits), parts="-")
    add(0, -1, 1, 255, 257, True, False, int("9" * 400), parts="-")
    add(Int(0), Int(5), Int(-(1 << 100)), IntWithSlots(0), IntWithSlots(-7), IntWithSlots(1 << 1000), Colour.RED, Colour.BIG)
    add(Flags.A, Flags.A | Flags.B, random.Random().getrandbits(5000))
    add(0.0, 1.5, -1e300, float("nan"), 1j, complex(2, 3), parts="-")
    add(Float(2.5))


def decimals():
    context = decimal.Context(prec=2000)
    add(decimal.Decimal(0), decimal.Decimal("1.1"), decimal.Decimal("-" + "9" * 30), decimal.Decimal("NaN"), decimal.Decimal("Infinity"), context)
    add(decimal.Decimal("9" * 500), context.divide(decimal.Decimal(1), decimal.Decimal(7)), context.sqrt(decimal.Decimal(2)))
    for digits in (18, 19, 20, 38, 57, 76, 77, 95, 96, 200):
        add(decimal.Decimal("7" * digits), context.multiply(decimal.Decimal("7" * digits), decimal.Decimal("3" * digits)))

    class Money(decimal.Decimal):
        pass

    add(Money("3.50"), Money("8" * 300), fractions.Fraction(3, 7), fractions.Fraction(1 << 200, 3))


# --- text and bytes


class Str(str):
    pass


class StrWithSlots(str):
    __slots__ = ()


class Bytes(bytes):
    pass


class Bytearray(bytearray):
    pass


class Mode(str, enum.Enum):
    READ = "read"
    WRITE = "\u0416write"


def with_utf8(text):
    """Fills the cache of the str's UTF-8 form."""
    as_utf8 = ctypes.pythonapi.PyUnicode_AsUTF8
    as_utf8.argtypes, as_utf8.restype = [ctypes.py_object], ctypes.c_char_p
    as_utf8(text)
    return text


def with_wchar(text):
    """Up to 3.11: fills the cache of the str's wchar_t form."""
    if VERSION < (3, 12):
        as_unicode = ctypes.pythonapi.PyUnicode_AsUnicode
        as_unicode.argtypes, as_unicode.restype = [ctypes.py_object], ctypes.c_void_p
        as_unicode(text)
    return text


def legacy(length):
    """Up to 3.11: a str that is not ready, made by PyUnicode_FromUnicode(NULL, n)."""
    make = ctypes.pythonapi.PyUnicode_FromUnicode
    make.argtypes, make.restype = [ctypes.c_void_p, ctypes.c_ssize_t], ctypes.py_object
    return make(None, length)


def texts():
    for length in (0, 1, 2, 7, 8, 15, 16, 100, 1000, 70000):
        for letter in "a\u00e9\u0416\u20ac\U0001f600":
            text = "".join([letter] * length)
            add(text, parts="-")
            add(Str(text), StrWithSlots(text), parts=str_parts)
            if length:
                add(with_utf8("".join([letter, text])), with_utf8(Str(text + "!")), with_wchar("".join([letter, text, "?"])), with_wchar(Str(text)))
    add(sys.intern("interned_" + str(time.time())), Mode.READ, Mode.WRITE, "%s" % 12345, "x" * 511 + "\u0416")
    if VERSION < (3, 12):
        add(legacy(1), legacy(3), legacy(1000))
    for length in (0, 1, 2, 14, 15, 16, 17, 100, 511, 512, 5000, 100000):
        data = b"\xff" * length
        add(data, parts="-")
        add(Bytes(data), bytearray(length), bytearray(data), Bytearray(data))
        grown = bytearray()
        for _ in range(length):
            grown += b"z"
        cut = bytearray(data + b"1234567890")
        del cut[:4]
        shrunk = bytearray(data * 3)
        del shrunk[length // 2:]
        copied = bytearray(data * 2)
        copied.clear()
        add(grown, cut, shrunk, copied)
    view = memoryview(bytearray(100))
    add(view, view[2:9], view.cast("B", [10, 10]), view.cast("B", [10, 5, 2]), memoryview(b"").toreadonly())


# --- sequences


class List(list):
    pass


class Tuple(tuple):
    pass


class TupleWithSlots(tuple):
    __slots__ = ()


Point = collections.namedtuple("Point", "x y z")


def sequences():
    for length in (0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 20, 21, 63, 64, 65, 1000, 10000):
        grown, comprehended = [], [k for k in range(length)]
        for k in range(length):
            grown.append(k)
        shorter = list(range(3 * length))
        del shorter[length:]
        popped = [0] * (length + 1)
        popped.pop()
        cleared = list(grown)
        cleared.clear()
        for item in (grown, comprehended, shorter, popped, cleared, [None] * length, sorted(grown)):
            add(item, parts=list_parts)
        add(List(grown))
        add(tuple(grown), parts="-")
        add(Tuple(grown), TupleWithSlots(grown))
        queue_ = collections.deque(grown)
        bounded = collections.deque(grown, maxlen=length // 2)
        rotated = collections.deque(range(length + 30))
        rotated.rotate(length // 3)
        used = collections.deque(range(5 * length))
        for _ in range(4 * length):
            used.popleft()
        left = collections.deque()
        left.extendleft(grown)
        add(queue_, bounded, rotated, used, left, iter(queue_))
        add(range(length), iter(grown), reversed(grown), iter(tuple(grown)), slice(length), enumerate(grown), zip(grown, grown))
        for code in "bBhHiIlLqQfd":
            numbers_ = array.array(code, [1] * length)
            numbers_.append(2)
            add(numbers_, array.array(code))
    add(array.array("u", "ab\u0416"))
    add(Point(1, 2, 3), os.stat("/"), time.localtime(), sys.version_info, sys.flags, os.times())

    class Deque(collections.deque):
        pass

    class Array(array.array):
        pass

    add(Deque(range(100)), Deque(), Array("d", [1.5] * 10))


# --- dicts and sets


class Dict(dict):
    pass


class DictWithSlots(dict):
    __slots__ = ("a",)


class Ordered(collections.OrderedDict):
    pass


class Set(set):
    pass


class Frozen(frozenset):
    pass


def dicts():
    add({}, dict(), types.MappingProxyType({}))
    for length in list(range(1, 14)) + [20, 21, 22, 42, 43, 85, 86, 170, 171, 200, 341, 342, 1000, 10922, 10923, 30000, 50000]:
        words = {"key%d" % k: k for k in range(length)}
        numbers_ = {k: k for k in range(length)}
        shorter = dict(words)
        for k in range(length // 2):
            del shorter["key%d" % k]
        mixed = dict(words)
        mixed[3.5] = None
        emptied = dict(words)
        emptied.clear()
        popped = dict(words)
        while popped:
            popped.popitem()
        add(words, numbers_, shorter, mixed, emptied, popped, words.copy(), Dict(words), DictWithSlots(numbers_), dict.fromkeys(range(length)))
        add(collections.defaultdict(list, words), collections.Counter(numbers_), words.keys(), iter(words.values()), collections.ChainMap(words))
        if length <= 1000:
            ordered = collections.OrderedDict(words)
            fewer = collections.OrderedDict(numbers_)
            for k in range(length // 2):
                del fewer[k]
            nothing = collections.OrderedDict(words)
            nothing.clear()
            add(ordered, fewer, nothing, Ordered(words), ordered.keys(), iter(ordered))
        some = set(range(length))
        less = set(range(length))
        for k in range(length - length // 3):
            less.discard(k)
        none = set(words)
        none.clear()
        add(some, less, none, set(words), frozenset(words), Set(words), Frozen(numbers_), iter(some), some | {-1})
    add(set(), frozenset(), Set(), Frozen(), collections.OrderedDict(), Ordered(), Dict(), DictWithSlots(), os.environ)
    add(sys.modules, globals(), vars(os), vars(type(sys)), collections.defaultdict(int), weakref.WeakValueDictionary())
    if VERSION >= (3, 15):
        add(frozendict(), frozendict(a=1), frozendict({k: k for k in range(100)}))  # noqa: F821


# --- instances


class Plain:
    def __init__(self, a=1):
        self.a = a
        self.b = 2


class Empty:
    pass


class Late:
    """Attributes come in different orders and after the first."""

    def __init__(self, k):
        self.first = k
        for i in range(k % 5):
            setattr(self, "late%d" % ((i * 3 + k) % 7), i)


class Wide:
    def __init__(self):
        for i in range(40):
            setattr(self, "field%d" % i, i)


class Middle:
    def __init__(self):
        for i in range(20):
            setattr(self, "field%d" % i, i)


class Slots:
    __slots__ = ("a", "b", "c")


class SlotsMore(Slots):
    __slots__ = ("d",)


class SlotsDict(Slots):
    __slots__ = ("__dict__",)


class SlotsWeak(Slots):
    __slots__ = ("__weakref__",)


class SlotsBoth(Slots):
    __slots__ = ("__dict__", "__weakref__")


class NoSlots:
    __slots__ = ()


class Fault(Exception):
    pass


class FaultSlots(Exception):
    __slots__ = ("a",)


class Meta(type):
    pass


class Made(metaclass=Meta):
    def method(self):
        return self


class Annotated:
    a: int = 1


def instances():
    add(Plain(), Wide.__new__(Wide), Middle(), SlotsDict(), SlotsBoth(), parts=instance_parts)
    add(Slots(), SlotsMore(), SlotsWeak(), NoSlots(), object(), parts="-")
    add(Empty(), Wide())
    for k in range(40):
        late = Late(k)
        add(late)
        if k % 3 == 0:
            add(late.__dict__)
        if k % 7 == 0:
            late.__dict__["other"] = k
            add(late.__dict__)
    for cls in (Plain, Wide, Middle, SlotsDict, SlotsBoth, Made):
        for k in range(5):
            item = cls()
            item.x = k
            add(item, item.__dict__)
            if k == 2:
                del item.x
            if k == 3:
                item.__dict__[7] = "not a str"
            if k == 4:
                item.__dict__ = {"replaced": 1}
                add(item.__dict__)
    orphans = [Plain(k).__dict__ for k in range(5)] + [Middle().__dict__, Wide().__dict__]
    add(*orphans)
    for item in orphans[:2]:
        item["more"] = 1
    add(*(item.copy() for item in orphans))
    add(Fault("x"), FaultSlots(), ValueError(1, 2), OSError(2, "no", "file"), KeyError("k"), UnicodeDecodeError("a", b"b", 0, 1, "c"))
    add(StopIteration(3), SystemExit(1), ImportError("x"), SyntaxError("y"), AttributeError("z"), BaseException())
    for item in (Plain, Empty, Wide, Slots, Fault, Meta, Made, Point, Colour, Int, Dict, Annotated, type, int, dict, object, ValueError, Mode):
        add(item)
    add(*(cls for cls in object.__subclasses__()[:400]))
    add(*(cls for cls in BaseException.__subclasses__()))
    add(*(type("Dynamic%d" % k, (Plain,), {"f%d" % i: i for i in range(k)}) for k in range(0, 60, 7)))


# --- code that runs


def generator(a, b=2):
    c = yield a
    yield from (x + b for x in range(c or 3))


def many_locals():
    a, b, c, d, e, f, g, h = range(8)  # noqa: F841
    del a
    yield b, c, d, [e, f, (g, h)]


def closing(x):
    y = [x]

    def inside():
        yield x, y

    return inside()


async def coroutine(x):
    return await asyncio.sleep(x)


async def async_generator(x):
    yield x
    yield x + 1


def frame_of(depth, *args):
    if depth:
        local = [depth]
        return frame_of(depth - 1, local, *args)
    return sys._getframe()


def closure_frame(x):
    def inside():
        return sys._getframe(), x

    return inside()[0]


def traceback_frames():
    try:
        json.loads("{bad")
    except ValueError as error:
        return error
    return None


CLASS_FRAMES = []


class Body:
    x = 1
    CLASS_FRAMES.append(sys._getframe())


def running():
    for make in (generator, many_locals, closing):
        fresh = make(1) if make is not many_locals else make()
        begun = make(1) if make is not many_locals else make()
        next(begun)
        done = make(1) if make is not many_locals else make()
        for _ in done:
            pass
        closed = make(1) if make is not many_locals else make()
        closed.close()
        add(fresh, begun, done, closed, fresh.gi_frame, begun.gi_frame)
    add((x for x in range(3)), (lambda: (yield))())
    for item in (coroutine(1), async_generator(1)):
        add(item)
    waiting = coroutine(1)
    add(waiting.__await__())
    closed = coroutine(1)
    closed.close()
    add(waiting, closed, async_generator(2).asend(None), async_generator(2).__anext__())
    for depth in (0, 1, 2, 5):
        frame = frame_of(depth)
        while frame:
            add(frame)
            frame = frame.f_back
    add(closure_frame(3), *CLASS_FRAMES)
    error = traceback_frames()
    add(error)
    step = error.__traceback__
    while step:
        add(step, step.tb_frame)
        step = step.tb_next
    add(sys._getframe(), next(iter(sys._current_frames().values())))


def functions():
    add(add, (lambda x: x), functools.partial(add, 1), functools.lru_cache(maxsize=10)(word), functools.partial(int, base=2))
    add(len, "".join, [].append, Made().method, Made.method, str.join, dict.__dict__["keys"], dict.__dict__["fromkeys"])
    add(Slots.__dict__["a"], property(len), staticmethod(len), classmethod(len), operator.itemgetter(1, 2), operator.attrgetter("a.b"))
    add(operator.methodcaller("x", 1, k=2), super(Made, Made()), types.SimpleNamespace(a=1), types.MethodType(len, []), NotImplemented, ..., None)
    cell = (lambda x: lambda: x)(1).__closure__[0]
    add(cell, os, sys, types.ModuleType("made"), threading.Lock(), threading.RLock(), threading.current_thread(), threading.Event())
    codes = [f.__code__ for f in (add, word, running, dicts, generator, closing, coroutine, json.loads, re.compile)]
    add(*codes)
    add(compile("x = 1\n" * 1000, "made", "exec"), compile("1", "made", "eval"), compile("", "made", "exec"))
    for k in range(1, 40):
        add(eval("lambda %s: (%s)" % (",".join("a%d" % i for i in range(k)), "+".join("a%d" % i for i in range(k)))).__code__)
    hot = eval("lambda a: len(str(a)) + len(repr(a)) + max(a, a)")
    for k in range(3000):
        hot(k)
    add(hot.__code__)

    def cells(a, b, c):
        return lambda: (a, b, c)

    add(cells.__code__, cells(1, 2, 3).__code__, cells(1, 2, 3))
    with_extra(cells.__code__)


def with_extra(code):
    if VERSION < (3, 12):
        request, put = ctypes.pythonapi._PyEval_RequestCodeExtraIndex, ctypes.pythonapi._PyCode_SetExtra
    else:
        request, put = ctypes.pythonapi.PyUnstable_Eval_RequestCodeExtraIndex, ctypes.pythonapi.PyUnstable_Code_SetExtra
    request.argtypes, request.restype = [ctypes.c_void_p], ctypes.c_ssize_t
    put.argtypes, put.restype = [ctypes.py_object, ctypes.c_ssize_t, ctypes.c_void_p], ctypes.c_int
    put(code, request(None), None)
    other = (lambda: 12345).__code__
    put(other, request(None), 16)
    add(other)


def iterators():
    few, many = list(range(5)), list(range(50))
    add(itertools.product(few), itertools.product(few, many, repeat=3), itertools.product(), itertools.product([]))
    add(itertools.combinations(few, 2), itertools.combinations(many, 20), itertools.combinations(few, 0), itertools.combinations(few, 9))
    add(itertools.combinations_with_replacement(many, 7), itertools.combinations_with_replacement(few, 0))
    add(itertools.permutations(few), itertools.permutations(many, 3), itertools.permutations([], 2), itertools.permutations(few, 9))
    for item in (itertools.permutations(few), itertools.product(few, few), itertools.combinations(few, 3)):
        next(item)
        add(item)
    for item in (itertools.permutations([1, 2]), itertools.product([1, 2]), itertools.combinations([1, 2], 1)):
        list(item)
        add(item)
    add(itertools.count(), itertools.cycle(few), itertools.chain(few), itertools.islice(many, 3), itertools.repeat(1), itertools.starmap(max, []))
    add(*itertools.tee(many, 3))
    add(map(len, []), filter(None, few), iter(int, 1), reversed((1, 2)), iter("abc"), iter({1}), iter(b"x"), itertools.groupby(few))
    add(itertools.accumulate(few), itertools.compress(few, few), itertools.takewhile(bool, few), itertools.zip_longest(few, many))


# --- the rest of the standard library


def streams():
    with open(os.__file__, "rb") as file:
        data = file.read()
    for buffering in (0, 16, 8192, 100000):
        file = open(os.__file__, "rb", buffering)
        file.read(1)
        add(file, file.raw if buffering else file)
        closed = open(os.__file__, "rb", buffering)
        closed.close()
        add(closed)
    add(open(os.devnull, "wb"), open(os.devnull, "r+b", 64), open(os.devnull, "w", encoding="utf-8"), io.BufferedRWPair(io.BytesIO(), io.BytesIO(), 500))
    add(sys.stdin, sys.stdout, sys.stdin.buffer, io.BufferedReader(io.BytesIO(b"abc"), 333))
    written, taken, cut = io.BytesIO(), io.BytesIO(), io.BytesIO(data)
    for _ in range(100):
        written.write(b"hello, world")
    taken.write(b"taken" * 100)
    cut.truncate(10)
    view = io.BytesIO(b"x" * 1000)
    add(written, taken, cut, io.BytesIO(), io.BytesIO(data), taken.getvalue(), view, view.getbuffer())
    shared = io.BytesIO(b"a" * 99)
    shared.write(b"b")
    shut = io.BytesIO(b"gone")
    shut.close()
    add(shared, shut)
    text = io.StringIO()
    for _ in range(100):
        text.write("hello")
    add(text, io.StringIO("initial \u0416"), io.StringIO())


def library():
    for form in ("", "i", "<IHB", "10s", "iii4xq", "ihbq" * 30, "3x", "b" * 300, "0s2h"):
        add(struct.Struct(form))
    add(re.compile("a+(b|c)*"), re.compile("x" * 500), re.match("(a)(b)(c)", "abc"), re.finditer("a", "aaa"), re.compile(b"[a-z]+"))
    add(datetime.datetime.now(), datetime.date.today(), datetime.timedelta(1), datetime.timezone.utc, datetime.time(1))
    add(datetime.datetime.now(datetime.timezone.utc), random.Random(1), random.SystemRandom(), mmap.mmap(-1, 8192), uuid.uuid4())
    root = ElementTree.fromstring("<a x='1'><b/><c>t</c><d><e/><f/><g/><h/><i/></d></a>")
    for item in root.iter():
        add(item)
    many = ElementTree.Element("many", {"k": "v"})
    for k in range(50):
        many.append(ElementTree.Element("child%d" % k))
    add(many, ElementTree.Element("bare"), ElementTree.ElementTree(root), ElementTree.TreeBuilder(), ElementTree.XMLParser())
    pickler, big = pickle.Pickler(io.BytesIO()), pickle.Pickler(io.BytesIO())
    big.dump(["x%d" % k for k in range(200)])
    reader, other = pickle.Unpickler(io.BytesIO(pickle.dumps([["y%d" % k] for k in range(300)]))), pickle.Unpickler(io.BytesIO(b""))
    reader.load()
    text = pickle.Unpickler(io.BytesIO(pickle.dumps(["a", 5, (1,)], 0)), encoding="latin-1", errors="surrogateescape")
    text.load()
    add(pickler, big, reader, other, text)
    simple = queue.SimpleQueue()
    for k in range(50):
        simple.put(k)
    add(simple, queue.SimpleQueue(), queue.Queue())
    add(weakref.ref(Plain), weakref.proxy(Plain), weakref.WeakSet(), weakref.ref(add, len))


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double * 10)]


class Choice(ctypes.Union):
    _fields_ = [("a", ctypes.c_int), ("b", Pair)]


class Derived(Pair):
    _fields_ = [("next", ctypes.POINTER(Pair))]


def foreign():
    add(ctypes.c_int(1), Pair(), Choice(), (Pair * 3)(), (ctypes.c_char * 1000)(), ctypes.pointer(Pair()), ctypes.byref(Pair()))
    add(ctypes.CDLL(None), ctypes.pythonapi.PyUnicode_AsUTF8, ctypes.CFUNCTYPE(None)(lambda: None), ctypes.create_string_buffer(5000))
    for cls in (Pair, Choice, Derived, ctypes.c_int, ctypes.c_char * 7, (ctypes.c_short * 3) * 4, ctypes.POINTER(Pair), ctypes.CFUNCTYPE(None)):
        add(cls, cls.__dict__)
        add(*(item for item in gc.get_referents(cls) if isinstance(item, dict)))
    add(ctypes.Structure, ctypes.Array, type(ctypes.Structure), type(ctypes.c_int))


def arrays():
    try:
        import numpy
    except ImportError:
        return

    class Array(numpy.ndarray):
        pass

    flat = numpy.zeros(10)
    add(flat, flat[2:5], flat.reshape(2, 5), numpy.zeros((3, 4, 5), "i2"), numpy.array(5.0), numpy.zeros((0, 5)), flat.view(Array), Array((4, 4)))
    add(numpy.asfortranarray(numpy.ones((30, 40))), numpy.array(["a", "bcd"]), numpy.zeros(100, [("a", "i4"), ("b", "f8")]))
    add(numpy.array([None, 1, "x"], dtype=object), numpy.zeros(3, "V17"), numpy.zeros([1] * 30), numpy.zeros((500, 1000)), numpy.arange(7)[::2])
    for code in "?bBhHiIlLqQefdgFDG":
        add(numpy.ones(3, code)[0], numpy.ones(3, code))
    add(numpy.datetime64("2020-01-01"), numpy.timedelta64(1, "s"), numpy.str_("text"), numpy.str_("\u0416"), numpy.bytes_(b"abc"))
    add(numpy.zeros(1, [("a", "i4"), ("b", "f8")])[0], numpy.dtype("f8"), numpy.dtype([("a", "i4")]), numpy.random.default_rng(), numpy.sin)


def missing():
    """Types with a __sizeof__ of their own and no object here."""
    made, seen = {base for item, _ in KEEP for base in type(item).__mro__}, set()

    def walk(cls):
        if cls not in seen:
            seen.add(cls)
            for sub in type.__subclasses__(cls):
                walk(sub)

    walk(object)
    names = (cls.__module__ + "." + cls.__name__ for cls in seen if "__sizeof__" in cls.__dict__ and cls not in made)
    return [name for name in names if not name.startswith("numpy.")]


def main():
    for make in (numbers, decimals, texts, sequences, dicts, instances, running, functions, iterators, streams, library, foreign, arrays):
        make()
    gc.collect()
    gc.disable()
    # what is there already: types, code, functions, strings of the library
    for item in gc.get_objects()[:6000]:
        if item is not KEEP and item is not sys._getframe():
            KEEP.append((item, "?"))
    out = sys.stdout
    lines = ["%d %%d %%s %s" % (id(item), type(item).__name__.replace(" ", "_")) for item, _ in KEEP]
    parts = [parts_of(item, told) for item, told in KEEP]
    absent = missing()
    # last: code that ran often has got a cache by now
    sizes = [sys.getsizeof(item) for item, _ in KEEP]
    for line, size, part in zip(lines, sizes, parts):
        out.write(line % (size, part) + "\n")
    for name in absent:
        out.write("missing %s\n" % name)
    out.write("end\n")
    out.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
