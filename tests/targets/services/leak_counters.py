# SPDX-License-Identifier: MIT
"""counters of ints by client, for ever more clients"""

import collections

import service

BYTES_SENT = collections.Counter()


def leak(number):
    client = "2001:db8:%0100x" % number  # LEAK: the key
    BYTES_SENT[client] += 100000 + number  # LEAK: the count


def handle(number):
    collections.Counter(service.work(number)).most_common(3)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, containers=[BYTES_SENT])
