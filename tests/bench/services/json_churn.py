# SPDX-License-Identifier: MIT
"""json and re churn: decodes a batch of records, picks words out of them, encodes the result. One thread, all processor."""

import json
import random
import re

import meter

WORD = re.compile(r"(?P<key>[a-z]+)=(?P<value>[0-9]+)")
RANDOM = random.Random(4)


def record(number):
    text = " ".join("%s=%d" % (RANDOM.choice(["user", "item", "price", "stock", "page"]), RANDOM.randrange(10**6)) for _ in range(6))
    return {"id": number, "text": text, "tags": ["t%d" % RANDOM.randrange(50) for _ in range(4)], "score": RANDOM.random()}


BODIES = [json.dumps([record(i * 10 + j) for j in range(10)]) for i in range(50)]
state = {"turn": 0}


def request():
    state["turn"] = turn = (state["turn"] + 1) % len(BODIES)
    answer = []
    for row in json.loads(BODIES[turn]):
        pairs = {m.group("key"): int(m.group("value")) for m in WORD.finditer(row["text"])}
        pairs["tags"] = sorted(set(row["tags"]))
        pairs["text"] = WORD.sub(r"\g<key>", row["text"]).upper()
        answer.append(pairs)
    return json.dumps(answer)


if __name__ == "__main__":
    meter.loop(request)
