# SPDX-License-Identifier: MIT
"""a deque with maxlen, as a log of late"""

import collections

import service

RIGHT = ("steady",)
LOG = collections.deque(maxlen=2000)


def log(number, answer):
    LOG.append({"number": number, "line": "GET /%0300d" % number, "answer": answer})


def handle(number):
    log(number, service.work(number))


if __name__ == "__main__":
    service.run(handle, rate=500, prepare=lambda: [log(number, "none") for number in range(LOG.maxlen)])
