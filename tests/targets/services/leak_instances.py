# SPDX-License-Identifier: MIT
"""instances with a __dict__, in a list"""

import service

SESSIONS = []


class Session:
    def __init__(self, user, token):
        self.user = user  # LEAK: where an instance's dict is not part of it, it is made here
        self.token = token


def leak(number):
    SESSIONS.append(Session("user-%d" % number, "token %0150d" % number))  # LEAK: no session is ever closed


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, leak, rate=800, containers=[SESSIONS])
