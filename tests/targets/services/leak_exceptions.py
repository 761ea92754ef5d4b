# SPDX-License-Identifier: MIT
"""exceptions kept with their tracebacks and frames"""

import service

ERRORS = []


class BadRequest(Exception):
    pass


def parse(text):
    raise BadRequest("cannot parse %r" % text)  # LEAK: the exception, its text, the frame it keeps


def leak(number):
    try:
        parse("request %0600d" % number)  # LEAK: the text is held by the frame of parse()
    except BadRequest as error:
        ERRORS.append(error)  # LEAK


def handle(number):
    try:
        int(service.work(number))
    except ValueError as error:
        return str(error)


if __name__ == "__main__":
    service.run(handle, leak, rate=600, every=2, containers=[ERRORS])
