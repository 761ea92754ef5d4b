# SPDX-License-Identifier: MIT
"""A process that sleeps in time.sleep() and computes only when SIGUSR2 asks it to."""

import targetlib

if __name__ == "__main__":
    targetlib.quiet_signals()
    targetlib.begin()
    targetlib.stay("ready")
