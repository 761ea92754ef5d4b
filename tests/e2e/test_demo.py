# SPDX-License-Identifier: MIT
"""`make demo`: within 30 s a report whose first line of code is the leaking one."""

import os
import re
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_demo_prints_the_leaking_line_first():
    start = time.monotonic()
    done = subprocess.run(["scripts/demo.sh"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 30
    code = re.findall(r"^  (\S+):(\d+)  (\S+)\n      (.*)$", done.stdout, re.M)
    assert code, done.stdout
    path, line, function, source = code[0]
    assert path.endswith("leaky_service.py") and function == "remember", done.stdout
    assert "LEAK" in source
    assert "lost: 0 events" in done.stdout
