# SPDX-License-Identifier: MIT
"""Functions with ever-changing names, made by exec, that leak a little each and are then freed, code object and all.

The next one's code object comes to stand where a dead one stood; a tracer that
remembers names by address blames the dead. Starts at go; writes the truth as
JSON, {"reused": N, "functions": {name: {"file", "line", "blocks", "bytes"}}},
then says "done".

    reuse_code.py --out FILE [--functions N] [--blocks N]
"""

import argparse
import json

import targetlib

SIZE = 1000


def source_of(index):
    """The leaking line moves about within the function, so that a stale line table shows too."""
    lines = ["def leak_%05d(kept, slot):" % index] + ["    pass"] * (index % 17)
    return "\n" * (index % 23) + "\n".join(lines + ["    kept[slot] = bytes(%d)" % SIZE]) + "\n", index % 23 + index % 17 + 2


def leak_once(index, kept, blocks, seen):
    """Makes the function, calls it, frees it. Returns what a tracer must find."""
    source, line = source_of(index)
    file = "<generated %d>" % (index % 7)
    name = "leak_%05d" % index
    names = {}
    exec(compile(source, file, "exec"), names)
    function = names.pop(name)
    reused = id(function.__code__) in seen
    seen.add(id(function.__code__))
    for slot in range(blocks):
        function(kept, index * blocks + slot)
    truth = {"file": file, "line": line, "blocks": blocks, "bytes": blocks * (bytes.__basicsize__ + SIZE)}
    return name, truth, reused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--functions", type=int, default=500)
    parser.add_argument("--blocks", type=int, default=3)
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    go = targetlib.prepare_go()
    kept = [None] * (options.functions * options.blocks)
    targetlib.say("ready")
    targetlib.wait_for_go(go)
    functions, reuses, seen = {}, 0, set()
    for index in range(options.functions):
        name, truth, reused = leak_once(index, kept, options.blocks, seen)
        functions[name] = truth
        reuses += reused
    targetlib.write_whole(options.out, json.dumps({"reused": reuses, "functions": functions}))
    targetlib.say("reused %d of %d" % (reuses, options.functions))
    targetlib.stay()


if __name__ == "__main__":
    main()
