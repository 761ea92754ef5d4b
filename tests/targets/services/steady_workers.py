# SPDX-License-Identifier: MIT
"""a pool of worker threads behind a queue"""

import concurrent.futures

import service

RIGHT = ("steady",)
POOL = concurrent.futures.ThreadPoolExecutor(max_workers=4)


def answer(number):
    rows = [{"row": k, "text": "%d-%d" % (number, k)} for k in range(40)]
    return service.work(number), rows


def handle(number):
    POOL.submit(answer, number)


if __name__ == "__main__":
    service.run(handle, rate=400)
