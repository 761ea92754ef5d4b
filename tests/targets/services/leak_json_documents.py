# SPDX-License-Identifier: MIT
"""parsed JSON documents, in a dict"""

import json

import service

DOCUMENTS = {}


def leak(number):
    body = '{"id": %d, "words": ["w%0300d", "v%0300d"], "price": %d.25}' % (number, number, number, number)
    DOCUMENTS[number] = json.loads(body)  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=2, containers=[DOCUMENTS])
