# SPDX-License-Identifier: MIT
"""10 KB a second, alone"""

import service

AUDIT = []


def leak(number):
    AUDIT.append("audit %0450d" % number)  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=400, every=20, containers=[AUDIT])
