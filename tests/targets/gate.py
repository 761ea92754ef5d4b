# SPDX-License-Identifier: MIT
"""A test suite for a leak gate: ten tests that do the same for the time that GATE_SECONDS says, and keep what they make if GATE_LEAK is set.

Run by pytest; its name keeps it from being collected with others.
"""

import json
import os
import time

import pytest

kept = []


def work():
    return json.loads(json.dumps({"numbers": list(range(50)), "nested": {"text": "x" * 40}}))


@pytest.mark.parametrize("number", range(10))
def test_steady(number):
    end = time.monotonic() + float(os.environ["GATE_SECONDS"]) / 10
    while time.monotonic() < end:
        for _ in range(10):
            assert work()["nested"]
        if os.environ.get("GATE_LEAK"):
            kept.append(b"%0500d" % number)  # LEAK
        time.sleep(0.002)
    assert number != int(os.environ.get("GATE_FAIL", -1))
