# SPDX-License-Identifier: MIT
"""200 MB in one array of numpy's, 2,000 small arrays, and 200 MB that are never touched; then it sleeps."""

import numpy

import targetlib

if __name__ == "__main__":
    LARGE = numpy.ones(25 << 20)
    SMALL = [numpy.arange(100) for _ in range(2000)]
    UNTOUCHED = numpy.zeros(25 << 20)
    targetlib.quiet_signals()
    targetlib.begin()
    targetlib.stay("ready")
