# SPDX-License-Identifier: MIT
"""The list of places of frames.py: a function marked @place calls probe() from code that is reached in one particular way."""

PLACES = []


def place(function):
    PLACES.append(function)
    return function


def visit_all(probe):
    for function in PLACES:
        function(probe)
