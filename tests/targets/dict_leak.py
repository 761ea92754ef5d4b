# SPDX-License-Identifier: MIT
"""A leak of dicts beside a line that makes and drops dicts all day, through the same free lists. Says "ready", then runs for ever."""

import time

import targetlib

KEPT = []


def innocent(n):
    for number in range(n):
        {"user": number, "basket": None}  # INNOCENT


def leak(number):
    KEPT.append({"session": number, "state": None})  # LEAK


def main():
    targetlib.begin()
    targetlib.say("ready")
    number = 0
    while True:
        innocent(300)
        for _ in range(6):
            number += 1
            leak(number)
        time.sleep(0.003)


main()
