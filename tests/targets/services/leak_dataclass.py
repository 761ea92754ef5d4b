# SPDX-License-Identifier: MIT
"""dataclass instances, in a history"""

import dataclasses

import service

HISTORY = []


@dataclasses.dataclass
class Order:
    number: int
    customer: str
    note: str


def leak(number):
    HISTORY.append(Order(number, "customer %040d" % number, "note %0300d" % number))  # LEAK


def handle(number):
    order = Order(number, "c-%d" % number, service.work(number))
    return dataclasses.asdict(order)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=3, containers=[HISTORY])
