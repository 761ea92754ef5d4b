# SPDX-License-Identifier: MIT
"""asyncio server: a line of JSON in, a line of JSON out, each request a few tasks, under ten clients.

    asyncio_server.py                 the service; --client PORT: its clients
"""

import asyncio
import collections
import json
import sys

import meter

CACHE_SIZE = 1000
cache = collections.OrderedDict()


async def look_up(key):
    """A bounded cache, as every service has one: it fills, then turns over."""
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    await asyncio.sleep(0)
    cache[key] = {"key": key, "name": "item %d" % key, "price": key * 1.25}
    if len(cache) > CACHE_SIZE:
        cache.popitem(last=False)
    return cache[key]


async def handle(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        order = json.loads(line)
        rows = await asyncio.gather(*(look_up(key) for key in order["keys"]))
        total = sum(row["price"] for row in rows)
        writer.write(json.dumps({"user": order["user"], "rows": rows, "total": total}).encode() + b"\n")
        await writer.drain()
    writer.close()


async def serve():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    meter.obey_in_background()
    meter.ready("client", port=server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def orders():
    return [json.dumps({"user": "u%d" % n, "keys": [n * 37 % 3000, n * 11 % 500, n % 50]}).encode() + b"\n" for n in range(1000)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        meter.generate(int(sys.argv[2]), 10, orders(), meter.line_complete)
    asyncio.run(serve())
