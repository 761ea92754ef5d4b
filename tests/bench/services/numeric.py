# SPDX-License-Identifier: MIT
"""Numeric work: numpy on small arrays and large ones where numpy is there, else arithmetic on floats in pure Python."""

import random

import meter

try:
    import numpy
except ImportError:
    numpy = None

RANDOM = random.Random(4)
POINTS = [(RANDOM.random(), RANDOM.random(), RANDOM.random()) for _ in range(60)]


def with_numpy():
    """A step of a simulation in small arrays, and a smoothing of one that is too large for pymalloc."""
    field = numpy.linspace(0.0, 1.0, 20000)
    for _ in range(40):
        small = numpy.array(POINTS[:20])
        centre = small.mean(axis=0)
        distance = numpy.sqrt(((small - centre) ** 2).sum(axis=1))
        field[:20] += distance / distance.max()
    return float(numpy.convolve(field, (0.25, 0.5, 0.25), "same").sum())


def in_python():
    """Forces between points, each with each."""
    energy = 0.0
    for ax, ay, az in POINTS:
        for bx, by, bz in POINTS:
            square = (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2 + 0.01
            energy += 1.0 / square ** 0.5
    return energy


if __name__ == "__main__":
    if numpy:
        meter.loop(with_numpy, note="numpy " + numpy.__version__)
    else:
        meter.loop(in_python, note="pure Python: no numpy for this interpreter")
