# SPDX-License-Identifier: MIT
"""reference cycles while the collector is off"""

import gc

import service


class Node:
    __slots__ = ("parent", "child", "text")


def leak(number):
    node, child = Node(), Node()  # LEAK: they hold each other
    node.child, child.parent = child, node
    node.text = "node %0400d" % number  # LEAK


def handle(number):
    service.work(number)


if __name__ == "__main__":
    gc.disable()
    service.run(handle, leak, rate=600, every=2)
