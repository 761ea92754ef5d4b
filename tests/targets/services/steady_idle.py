# SPDX-License-Identifier: MIT
"""a process that does next to nothing"""

import service

RIGHT = ("steady",)


def handle(number):
    service.work(number)


if __name__ == "__main__":
    service.run(handle, rate=1)
