# SPDX-License-Identifier: MIT
"""a sub-interpreter with a GIL of its own"""

import service
import subinterpreter

SINCE = (3, 12)
PAGES = []


def leak(number):
    PAGES.append("page %0600d" % number)  # LEAK


def handle(number):
    service.work(number)


def main():
    objects = service.truth_wanted()
    if objects:
        return service.calibrate(leak, objects, [PAGES])
    service.ready()
    return subinterpreter.run_main(__file__, own_gil=True)


if __name__ == "__main__":
    main()
elif __name__ == "__sub_main__":
    service.serve(handle, leak, rate=500, every=2)
