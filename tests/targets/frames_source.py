# SPDX-License-Identifier: MIT
"""Generated source for frames.py: what stands in no file, cannot be parsed by every version, or is too long to write."""

import sys

LONG_NAME = "a_name_of_two_hundred_characters_" + "x" * 167
LONGER_NAME = "a_name_longer_than_a_tracer_has_to_keep_" + "y" * 460


def small(name, tag, before=""):
    return "%sdef %s():\n    x = 1\n    return probe(%r)\n" % (before, name, tag)


def big_function():
    """A line table far over 3 KiB, whose probes stand in the middle and at the end, after a jump of 400 lines."""
    lines = ["def big():", "    x = 0"]
    lines += ["    x = x + len('%d')" % k for k in range(1400)]
    lines += ["    probe('big-middle')"]
    lines += ["    x = (x +", "         len('%d'))"] * 700
    lines += [""] * 400
    lines += ["    probe('big-end')", "    return x"]
    return "\n".join(lines).replace("%d", "1") + "\n"


def many_statements_one_line():
    return "def one_line():\n    " + "; ".join("x%d = %d" % (k, k * 1000) for k in range(300)) + "; probe('one-line')\n"


def match_statement():
    return """
def matched():
    match [1, {"key": 2}]:
        case [int(), {"key": 3}]:
            pass
        case [1, {"key": value}] if probe("match-guard"):
            probe("match-body")
"""


def except_star():
    return """
def starred():
    try:
        raise ExceptionGroup("group", [ValueError(1), TypeError(2)])
    except* ValueError:
        probe("except-star")
    except* TypeError:
        pass
"""


def type_parameters():
    return """
def generic[T: probe("type-bound")](x: T = None):
    return T.__bound__
"""


def all_sources():
    """(source, file name, name of the function to call) of each."""
    yield small("función_de_prueba", "latin-1-name"), "/somewhere/ficción.py", "función_de_prueba"
    yield small("функция_проба", "cyrillic-name"), "/где-то/модуль.py", "функция_проба"
    yield small("漢字の関数", "cjk-name"), "/某処/模块.py", "漢字の関数"
    yield small("\U00020000\U00020001", "astral-name"), "/\U0001f40d/\U00020000.py", "\U00020000\U00020001"
    yield small("odd_file", "odd-file"), "<odd \"quoted\" \\ name\twith a tab>", "odd_file"
    yield small("escape_file", "escape-file"), "/tmp/\x1b[31mred\x07.py", "escape_file"
    yield small("no_file", "empty-file-name"), "", "no_file"
    yield small("long_path", "long-path"), "/very" * 80 + "/long.py", "long_path"
    yield small(LONG_NAME, "long-name"), "<long name>", LONG_NAME
    yield small(LONGER_NAME, "longer-name"), "<longer name>", LONGER_NAME
    yield small("far_down", "far-down", "\n" * 70000), "<far down>", "far_down"
    yield big_function(), "<big>", "big"
    yield many_statements_one_line(), "<one line>", "one_line"
    if sys.version_info >= (3, 10):
        yield match_statement(), "<match>", "matched"
    if sys.version_info >= (3, 11):
        yield except_star(), "<except star>", "starred"
    if sys.version_info >= (3, 12):
        yield type_parameters(), "<type parameters>", "generic"
