# SPDX-License-Identifier: MIT
"""contexts with their variables, kept for callbacks that never come"""

import contextvars

import service

REQUEST = contextvars.ContextVar("request")
PENDING = []


def enter(number):
    REQUEST.set("request %0500d" % number)  # LEAK: lives as long as the context


def leak(number):
    context = contextvars.copy_context()  # LEAK
    context.run(enter, number)  # LEAK-CALLER
    PENDING.append(context)


def handle(number):
    contextvars.copy_context().run(service.work, number)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2, containers=[PENDING])
