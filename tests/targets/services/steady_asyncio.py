# SPDX-License-Identifier: MIT
"""an asyncio server with tasks that live 50 ms, and a few that wait long"""

import asyncio

import service

RIGHT = ("steady",)
TASKS = set()


async def answer(number):
    body = bytearray(2000)
    await asyncio.sleep(2.0 if number % 50 == 0 else 0.05)
    return len(body), service.work(number)


def handle(number):
    task = asyncio.ensure_future(answer(number))
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)


if __name__ == "__main__":
    service.run_async(handle, rate=400)
