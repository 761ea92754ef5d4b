# SPDX-License-Identifier: MIT
"""Right lines: the walker's frames equal sys._current_frames(), frame by frame, on every interpreter at hand."""

import json
import time

import harness

# Bytes of a name and of a file name that the tracer keeps, in the width CPython stores the text in.
NAME_MAX, FILE_MAX = 256, 512


def width(text):
    top = max(map(ord, text), default=0)
    return 1 if top < 0x100 else 2 if top < 0x10000 else 4


def cut(text, limit):
    return text[: limit // width(text)]


def frame_key(file, line, function):
    return cut(file or "", FILE_MAX), line or 0, cut(function or "", NAME_MAX)


def stack_of(finding):
    return tuple(frame_key(f["file"], f["line"], f["function"]) for f in finding["traceback"] if f["language"] == "python")


def nearest(expected, stacks):
    """For the message: the reported stack that has most frames of the expected one in common."""
    best = max(stacks, key=lambda stack: len(set(stack) & set(expected)))
    width_of = max(len(best), len(expected))
    pad = [("-", 0, "-")]
    rows = zip((list(expected) + pad * width_of)[:width_of], (list(best) + pad * width_of)[:width_of])
    return "\n".join("  %s %-60s %s" % (" " if a == b else ">", "%s:%d %s" % a, "%s:%d %s" % b) for a, b in rows)


def complaint(place, findings):
    """None if the report has the place right, else what is wrong."""
    expected = tuple(frame_key(*frame) for frame in place["stack"])
    finding = findings.get(expected)
    if finding is None:
        return "%s: no such stack (left: the truth, right: nearest reported)\n%s" % (place["tag"], nearest(expected, findings))
    got = finding["live_blocks"], finding["live_bytes"]
    if got != (place["blocks"], place["bytes"]):
        return "%s: %d blocks of %d bytes, not %d of %d" % (place["tag"], *got, place["blocks"], place["bytes"])
    return None


def test_frames_equal_current_frames(interpreter):
    inside, outside = harness.output_path(interpreter, "frames.json")
    with harness.Target(interpreter, "frames.py", "--out", inside) as target:
        report = harness.trace_until_done(target, "--mode", "exact", "--format", "json", "--group-by", "traceback",
                                          "--frames", 128, "--top", 0)
        target.check_unharmed()
    findings = {stack_of(finding): finding for finding in report["findings"]}
    places = json.loads(outside.read_text())
    wrong = [text for text in (complaint(place, findings) for place in places) if text]
    assert not wrong, "%d of %d places wrong\n%s" % (len(wrong), len(places), "\n".join(wrong[:12]))
    assert report["coverage"]["dropped"] == 0
    assert len(places) > 200


def test_frames_are_cut_at_the_limit(python):
    inside, outside = harness.output_path(python, "frames.json")
    with harness.Target(python, "frames.py", "--out", inside, "--only", "deepest", "--only", "plain") as target:
        report = harness.trace_until_done(target, "--format", "json", "--group-by", "traceback", "--frames", 5, "--top", 0)
    stacks = {stack_of(finding) for finding in report["findings"]}
    for place in json.loads(outside.read_text()):
        assert tuple(frame_key(*frame) for frame in place["stack"][:5]) in stacks, place["tag"]
    assert max(map(len, stacks)) == 5


def test_reused_code_objects_never_give_a_wrong_name(some_interpreter):
    inside, outside = harness.output_path(some_interpreter, "reuse.json")
    with harness.Target(some_interpreter, "reuse_code.py", "--out", inside) as target:
        report = harness.trace_until_done(target, "--format", "json", "--group-by", "traceback", "--top", 0)
    truth = json.loads(outside.read_text())
    assert truth["reused"] > 10, "the program must reuse addresses to be a test"
    seen = {}
    for finding in report["findings"]:
        frame = finding["traceback"][0] if finding["traceback"] else None
        if frame and (frame["function"] or "").startswith("leak_0"):
            seen[frame["function"]] = (frame["file"], frame["line"], finding["live_blocks"], finding["live_bytes"])
    expected = {name: (t["file"], t["line"], t["blocks"], t["bytes"]) for name, t in truth["functions"].items()}
    wrong = {name: (seen.get(name), expected[name]) for name in expected if seen.get(name) != expected[name]}
    assert not wrong, "%d of %d: %r" % (len(wrong), len(expected), list(wrong.items())[:5])


def test_subinterpreters(some_interpreter):
    with harness.Target(some_interpreter, "subinterp.py") as target:
        with harness.Trace(target.pid, "--format", "json", "--top", 0, "--frames", 30) as trace:
            time.sleep(1)
            report = trace.interrupt().report
    leaks = {("subinterp_leak.py", line) for line in harness.keep_lines("subinterp_leak.py").values()}
    leaks |= {("subinterp.py", line) for line in harness.keep_lines("subinterp.py").values()}
    assert len(leaks) == 3
    found = harness.python_blocks(report)
    missing = [leak for leak in sorted(leaks) if found.get(leak, [0])[0] <= 10]
    assert not missing, "%s not among %s" % (missing, sorted(found.items(), key=lambda item: -item[1][0])[:5])
    assert report["coverage"]["dropped"] == 0
