# SPDX-License-Identifier: MIT
"""templates and patterns compiled once each: 400 of them in the first 10 s"""

import re
import string

import service

# It grows for 8 of the observer's seconds, then no more.
RIGHT = ("levelling", "steady")
RATE = 400
TEMPLATES = {}
PATTERNS = {}


def template(name):
    if name not in TEMPLATES:
        TEMPLATES[name] = string.Template("<html>$user " + "%04d" % name * 300 + "</html>")
        PATTERNS[name] = re.compile("user-%d [a-z]+" % name)
    return TEMPLATES[name]


def handle(number):
    name = min(number // 10, 399) if number % 10 == 0 else number % 400 % (min(number // 10, 399) + 1)
    PATTERNS[name].search(template(name).substitute(user=service.work(number))) if name in PATTERNS else template(name)


if __name__ == "__main__":
    service.run(handle, rate=RATE)
