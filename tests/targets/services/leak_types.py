# SPDX-License-Identifier: MIT
"""a class made for each request, in a registry"""

import service

REGISTRY = []


def leak(number):
    REGISTRY.append(type("Handler%d" % number, (), {"number": number, "__slots__": ()}))  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=10, containers=[REGISTRY])
