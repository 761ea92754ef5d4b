# SPDX-License-Identifier: MIT
"""A small request-handling service that leaks: the program of `make demo`.

It takes requests (JSON text), checks and answers them, keeps the answers of
late in a bounded cache, writes an access log of fixed length, and remembers a
session for each request, which nobody ever forgets again: remember().

    leaky_service.py [--rate REQUESTS_A_SECOND] [--duration SECONDS] [--body BYTES]

At the default rate it leaks about 80 KB a second. Everything else it allocates
is freed, or bounded and full before "ready" is said.
"""

import argparse
import collections
import json
import re
import time

import targetlib

USERS = ["ada", "brian", "grace", "ken", "margaret", "niklaus"]
SESSIONS = []
CACHE_SIZE = 128

cache = collections.OrderedDict()
access_log = collections.deque(maxlen=200)
word = re.compile(r"\w+")


class Session:
    """What the service knows of a visitor."""

    __slots__ = ("user", "cookie")

    def __init__(self, user, cookie):
        self.user = user
        self.cookie = cookie


def remember(user, body):
    SESSIONS.append(Session(user, body.decode("ascii")))  # LEAK: no session is ever taken out again


def make_request(number, size):
    items = [{"id": number + k, "price": k * 1.25, "tags": ["a%d" % (number % 7), "b"]} for k in range(5)]
    request = {"user": number % len(USERS), "items": items, "note": "please " * (size // 8)}
    return json.dumps(request).encode("ascii")


def total_of(request):
    return sum(item["price"] * len(item["tags"]) for item in request["items"])


def cached_answer(key, request):
    answer = cache.get(key)
    if answer is None:
        answer = cache[key] = json.dumps({"total": total_of(request), "words": len(word.findall(request["note"]))})
        if len(cache) > CACHE_SIZE:
            cache.popitem(last=False)
    return answer


def handle(number, body):
    request = json.loads(body)
    user = USERS[request["user"]]
    remember(user, body)
    answer = cached_answer(number % (CACHE_SIZE * 2), request)
    access_log.append("%s %d %d" % (user, number, len(answer)))
    return answer


def serve(first, rate, duration, size):
    """Handles requests evenly at the rate; catches up after a pause, in bounded bursts."""
    started = time.monotonic()
    handled = 0
    while not duration or time.monotonic() - started < duration:
        due = int((time.monotonic() - started) * rate)
        for _ in range(min(due - handled, 100)):
            handle(first + handled, make_request(first + handled, size))
            handled += 1
        if handled >= due:
            time.sleep(1.0 / rate if rate < 100 else 0.01)
        elif due - handled > rate:
            handled = due


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--duration", type=float, default=0, help="stop handling after this time; default: never")
    parser.add_argument("--body", type=int, default=400, help="bytes of free text in a request")
    options = parser.parse_args()
    targetlib.quiet_signals()
    targetlib.begin()
    warm = 2 * CACHE_SIZE
    for number in range(warm):
        handle(number, make_request(number, options.body))
    targetlib.say("ready")
    serve(warm, options.rate, options.duration, options.body)
    targetlib.stay()


if __name__ == "__main__":
    main()
