# SPDX-License-Identifier: MIT
"""compiled patterns, one for each customer, in a dict"""

import re

import service

PATTERNS = {}


def leak(number):
    PATTERNS[number] = re.compile("(customer|client) %d [a-z]+[0-9]{1,20} (x|y)" % number)  # LEAK


def handle(number):
    re.sub(r"[A-Z]{3}", "abc", service.work(number))


if __name__ == "__main__":
    service.run(handle, leak, rate=300, every=6, containers=[PATTERNS])
