# SPDX-License-Identifier: MIT
"""instances with __slots__, in a dict by number"""

import service

CONNECTIONS = {}


class Connection:
    __slots__ = ("number", "peer", "headers")

    def __init__(self, number, peer, headers):
        self.number = number
        self.peer = peer
        self.headers = headers


def leak(number):
    CONNECTIONS[number] = Connection(number, "192.0.2.%d:%d" % (number % 250, number), "host: %0200d" % number)  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=800, every=2, containers=[CONNECTIONS])
