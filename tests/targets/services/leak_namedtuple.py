# SPDX-License-Identifier: MIT
"""named tuples, in a list of measurements"""

import collections

import service

Measurement = collections.namedtuple("Measurement", "number value unit host")
MEASUREMENTS = []


def leak(number):
    value, host = number + 1000, "host-%0300d" % number  # LEAK: both are kept by the next line
    MEASUREMENTS.append(Measurement(number, value, "seconds", host))  # LEAK


def handle(number):
    return Measurement(number, len(service.work(number)), "bytes", "here")._asdict()


if __name__ == "__main__":
    service.run(handle, leak, rate=800, containers=[MEASUREMENTS])
