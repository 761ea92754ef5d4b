# SPDX-License-Identifier: MIT
"""dicts, in a list of events with a text"""

import service

# Up to 3.12 the dicts and their key tables come out of free lists, which the requests fill: a tracer of the allocator sees them
# made in json's decoder. The text has no free list, and is the larger part.
EVENTS = []


def leak(number):
    text = "event %0400d" % number  # LEAK: kept by the dict
    EVENTS.append({"number": number, "kind": "click", "text": text, "seen": False, "page": 7})  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=800, every=2, containers=[EVENTS])
