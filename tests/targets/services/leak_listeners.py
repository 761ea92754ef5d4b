# SPDX-License-Identifier: MIT
"""listeners registered by each connection, removed by none"""

import service

LISTENERS = []


class Connection:
    def __init__(self, number):
        self.number = number  # LEAK: where an instance's dict is not part of it, it is made here
        self.buffer = bytes(1500)  # LEAK: kept by a bound method in LISTENERS

    def on_shutdown(self):
        self.buffer = None


def leak(number):
    connection = Connection(number)  # LEAK
    LISTENERS.append(connection.on_shutdown)  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=4, containers=[LISTENERS])
