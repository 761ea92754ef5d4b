# SPDX-License-Identifier: MIT
"""a thread for each request, gone after it"""

import threading

import service

RIGHT = ("steady",)
LOCAL = threading.local()


def serve_one(number):
    LOCAL.buffer = bytes(5000)
    LOCAL.answer = service.work(number)


def handle(number):
    thread = threading.Thread(target=serve_one, args=(number,))
    thread.start()
    thread.join()


if __name__ == "__main__":
    service.run(handle, rate=200)
