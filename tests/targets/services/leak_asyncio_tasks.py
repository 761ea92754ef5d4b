# SPDX-License-Identifier: MIT
"""asyncio tasks that wait for what never comes"""

import asyncio

import service

TASKS = set()


async def wait_for_answer(number):
    request = "request %0500d" % number  # LEAK: a local of a task that never ends
    answer = await asyncio.get_running_loop().create_future()  # LEAK
    return request, answer


async def answer(number):
    await asyncio.sleep(0)
    return service.work(number)


def leak(number):
    TASKS.add(asyncio.ensure_future(wait_for_answer(number)))  # LEAK


def handle(number):
    asyncio.ensure_future(answer(number))


if __name__ == "__main__":
    service.run_async(handle, leak, rate=500, every=2, containers=[TASKS])
