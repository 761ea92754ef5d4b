# SPDX-License-Identifier: MIT
"""weakref.finalize on an object that lives for ever"""

import weakref

import service


class Server:
    pass


SERVER = Server()


def close(number, address):
    raise AssertionError("the server lives for ever")


def leak(number):
    weakref.finalize(SERVER, close, number, "peer %0600d" % number)  # LEAK: in a registry until the server goes


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=3)
