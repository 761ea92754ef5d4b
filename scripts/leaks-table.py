#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns the results of tests/e2e/test_leaks.py into docs/leaks.md: one table an interpreter, one row a program.

    scripts/leaks-table.py build/leaks.jsonl > docs/leaks.md
"""

import json
import sys

HEAD = """# What the default mode says of {count} services

Each service of `tests/targets/services` was warmed up for {warm} s and observed for {seconds:g} s in the default mode, a few at a time on two cores.
*True rate* is what the leaking line of the first finding really kept a second: leaked objects counted by the program, times bytes an
object under tracemalloc on the same interpreter; a span, as pymalloc rounds up and containers grow in leaps (`tests/e2e/leaks.py`
explains it). *Found*: the first finding's innermost line, or its direct caller, is the leaking line. **Bold** is wrong.

`make test-all` makes the results again, `scripts/leaks-table.py` this page of them.
"""
WARM_UP = 2


def size(value):
    if value is None:
        return "-"
    return "%.0f B" % value if value < 1000 else "%.3g KB" % (value / 1000) if value < 1e6 else "%.3g MB" % (value / 1e6)


def marked(text, right):
    return text if right else "**%s**" % text


def leak_row(result):
    truth = "%s to %s" % (size(result["truth_low"]), size(result["truth_high"]))
    estimate = "%s [%s, %s]" % (size(result["estimate"]), size(result["low"]), size(result["high"]))
    return [result["program"], result["kind"], truth, marked(result["place"] or "nothing", result["found"]),
            marked(estimate, result["inside"]), marked(result["verdict"], result["verdict_right"])]


def other_row(result):
    return [result["program"], result["kind"], " or ".join(result["right"]), marked(result["verdict"], result["verdict_right"])]


def table(titles, rows):
    lines = ["| %s |" % " | ".join(titles), "|%s" % ("---|" * len(titles))]
    return lines + ["| %s |" % " | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]


def share(results, key):
    return "%d of %d" % (sum(bool(result[key]) for result in results), len(results))


def section(label, results):
    leaking = [result for result in results if result["family"] == "leak"]
    others = [result for result in results if result["family"] != "leak"]
    lines = ["## " + label, "", "Leaking line first: %s. True rate in the interval: %s. Verdict right: %s."
             % (share(leaking, "found"), share(leaking, "inside"), share(results, "verdict_right")), ""]
    lines += table(["program", "what leaks", "true rate a second", "found", "estimate a second [95 %]", "verdict"], map(leak_row, leaking))
    lines += ["", *table(["program", "what it is", "right", "verdict"], map(other_row, others)), ""]
    return lines


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        results = [json.loads(line) for line in file]
    labels = list(dict.fromkeys(result["interpreter"] for result in results))
    programs = {result["program"] for result in results}
    print(HEAD.format(count=len(programs), warm=WARM_UP, seconds=max(result["seconds"] for result in results)))
    for label in labels:
        print("\n".join(section(label, [result for result in results if result["interpreter"] == label])))


if __name__ == "__main__":
    main()
