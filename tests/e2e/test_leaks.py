# SPDX-License-Identifier: MIT
"""The default mode on services that leak and services that do not: the line, the rate, the verdict.

A short set runs always: each program in it must be judged right. With LEAKSNOOP_FULL=1 all programs run for 60 s on three
interpreters, two at a time; there the shares decide (test_shares), as an interval of 95 % is allowed to be wrong in 5 %.
The results of the full set are in build/leaks.jsonl; `scripts/leaks-table.py build/leaks.jsonl > docs/leaks.md`.
"""

import json

import pytest

import harness
import leaks

RESULTS = harness.ROOT / "build" / "leaks.jsonl"
FULL_SECONDS = 60
SHORT_SECONDS = 32  # a young process has no verdict of leak before 30
FULL_INTERPRETERS = ["debian-3.11", "plain-3.12", "debian-3.14"]

SHORT = ["leak_slots", "leak_dict_cache", "leak_closures", "leak_asyncio_tasks", "leak_lru_method", "leak_deque", "leak_subinterp_shared",
         "steady_lru_turnover", "steady_ring", "steady_threads", "steady_asyncio", "steady_workers"]
EXACT = ["leak_slots", "leak_exceptions", "leak_queue", "leak_large_bytes", "leak_prefork", "leak_tee"]
EXACT_SECONDS = 6
EXACT_TOLERANCE = 0.1

# Of what the default mode says within 60 s.
FOUND, INSIDE, VERDICTS = 0.95, 0.90, 0.95

ALL = {program.name: program for program in leaks.programs()}


def on(interpreter, names):
    return [ALL[name] for name in names if ALL[name].runs_on(interpreter)]


def is_right(result):
    return result["verdict_right"] and result.get("found", True) and result.get("inside", True)


def test_short_set(python):
    """An interval of 95 % is wrong in 5 %, and some of a dozen programs would be in every other run: what was wrong is measured a
    second time, alone, and must be right then."""
    results = leaks.measure_all(python, on(python, SHORT), SHORT_SECONDS, at_a_time=3)
    wrong = [result for result in results if not is_right(result)]
    again = leaks.measure_all(python, [ALL[result["program"]] for result in wrong], SHORT_SECONDS, at_a_time=1)
    still = [result for result in again if not is_right(result)]
    assert not still, "\n".join(leaks.as_text(result) for result in wrong + again)
    assert len(wrong) <= len(results) / 2, "\n".join(leaks.as_text(result) for result in wrong)


def test_the_truth_is_what_exact_mode_counts(python):
    """The programs and their truth, without sampling: in exact mode the marked line holds most, at the rate they say."""
    results = leaks.measure_all(python, on(python, EXACT), EXACT_SECONDS, 2, ["--mode", "exact"])
    wrong = [r for r in results if not (r["found"] and is_near(r))]
    assert len(results) == len(EXACT)
    assert not wrong, "\n".join(leaks.as_text(result) for result in wrong)


def is_near(result):
    low, high = result["truth_low"] * (1 - EXACT_TOLERANCE), result["truth_high"] * (1 + EXACT_TOLERANCE)
    return low <= result["estimate"] <= high


def full_interpreters():
    return [i for i in harness.interpreters() if i.label in FULL_INTERPRETERS] if harness.FULL else []


def pairs():
    """(interpreter, two programs) for all of the full set; it takes 30 s a program."""
    rows = []
    for interpreter in full_interpreters():
        chosen = on(interpreter, ALL)
        rows += [pytest.param(interpreter, chosen[at:at + 2], id="-".join([interpreter.label, *map(str, chosen[at:at + 2])]))
                 for at in range(0, len(chosen), 2)]
    return rows or [pytest.param(None, [], marks=pytest.mark.skip(reason="the full set needs LEAKSNOOP_FULL=1"))]


@pytest.fixture(scope="module")
def results_file():
    RESULTS.unlink(missing_ok=True)
    return RESULTS


@pytest.mark.parametrize("interpreter_of_pair, pair", pairs())
def test_full_set(interpreter_of_pair, pair, results_file):
    """Collects; fails only if a program or the tracer does."""
    results = leaks.measure_all(interpreter_of_pair, pair, FULL_SECONDS, at_a_time=2)
    with open(results_file, "a", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(result) + "\n")
            print(leaks.as_text(result))


@pytest.mark.skipif(not harness.FULL, reason="the full set needs LEAKSNOOP_FULL=1")
def test_shares():
    """Over all of the full set, which must be complete."""
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    present = {(result["interpreter"], result["program"]) for result in results}
    wanted = {(i.label, program.name) for i in full_interpreters() for program in on(i, ALL)}
    assert wanted <= present, "not measured: %s" % sorted(wanted - present)
    leaking = [result for result in results if result["family"] == "leak"]
    shares = {"found": leaks.share(leaking, "found"), "inside": leaks.share(leaking, "inside"),
              "verdict_right": leaks.share(results, "verdict_right")}
    bars = {"found": FOUND, "inside": INSIDE, "verdict_right": VERDICTS}
    missed = [result for result in results if not all(result.get(key, True) for key in bars)]
    accused = [result for result in results if result["family"] != "leak" and result["verdict"] == "leak"]
    text = "\n".join(leaks.as_text(result) for result in missed)
    assert all(shares[key] >= bars[key] for key in bars), "%s\n%s" % (shares, text)
    assert not accused, "called a leak:\n" + "\n".join(leaks.as_text(result) for result in accused)
