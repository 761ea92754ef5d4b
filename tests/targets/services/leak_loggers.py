# SPDX-License-Identifier: MIT
"""a logger by name for each request, with a filter of its own"""

import logging

import service


class RequestFilter(logging.Filter):
    def __init__(self, number):
        self.tag = "request %0300d" % number  # LEAK: held by the filter, held by the logger

    def filter(self, record):
        record.tag = self.tag
        return True


def leak(number):
    logging.getLogger("request-%d" % number).addFilter(RequestFilter(number))  # LEAK: loggers are never forgotten


def handle(number):
    logging.getLogger("service").debug("handled %s", service.work(number))


if __name__ == "__main__":
    service.run(handle, leak, rate=500, every=5, containers=[logging.root.manager.loggerDict])
