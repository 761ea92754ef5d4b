# SPDX-License-Identifier: MIT
"""10 KB a second amid 200,000 allocations a second"""

import service

AUDIT = []


def churn(number):
    """About 500 objects, gone at once."""
    pairs = [(k, "%d-%d" % (number, k)) for k in range(125)]
    return max(pairs), {text: bytes(k % 90) for k, text in pairs}


def leak(number):
    AUDIT.append("audit %0450d" % number)  # LEAK


def handle(number):
    churn(number)
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=25, containers=[AUDIT])
