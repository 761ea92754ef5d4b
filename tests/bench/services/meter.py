# SPDX-License-Identifier: MIT
"""What the services of the bench share: their commands, their meter, their load generator.

A service (or its load generator) reads commands from standard input, one a line:

    run             make requests, one after the other, until told otherwise
    measure S       go on for S seconds, then print {"requests", "seconds", "p50", "p99"}; goes on running
    pause           make none until the next "run"
    tracemalloc N   start tracemalloc with N frames, stop it with 0; prints {"tracemalloc": N}

and ends when standard input does. A server obeys only the last one; its load generator the others. Commands are
looked for every 20 ms, so that they cost nothing that shows.

Runs on every supported CPython, 3.8 and later, with nothing but the standard library.
"""

import array
import json
import os
import select
import selectors
import socket
import sys
import threading
import time

LOOK = 0.02
CAPACITY = 1 << 18  # latencies kept of one measurement; beyond that requests are counted only


def say(**what):
    print(json.dumps(what), flush=True)


def ready(load, **more):
    """Tells the driver who makes the requests (self, client or wrk) and which process is the service."""
    say(pid=os.getpid(), load=load, **more)


def set_tracemalloc(frames):
    import tracemalloc

    tracemalloc.stop()
    if frames:
        tracemalloc.start(frames)
    say(tracemalloc=frames)


class Meter:
    """Requests and their latencies in a stretch of time. Its memory is taken once: the meter must not look like a leak."""

    def __init__(self):
        self.latencies = array.array("f", bytes(4 * CAPACITY))
        self.count = 0
        self.start = 0.0

    def begin(self, now):
        self.count, self.start = 0, now

    def add(self, latency):
        if self.count < CAPACITY:
            self.latencies[self.count] = latency
        self.count += 1

    def result(self, now):
        kept = sorted(self.latencies[:min(self.count, CAPACITY)])
        at = lambda share: kept[int(share * (len(kept) - 1))] if kept else None
        return {"requests": self.count, "seconds": now - self.start, "p50": at(0.5), "p99": at(0.99)}


class Commands:
    """Standard input, looked at without waiting while requests run."""

    def __init__(self, meter):
        self.meter = meter
        self.running = False
        self.end = None
        self.rest = b""

    def look(self):
        """Obeys what has come; does not return before it may run. Ends the process when there is nobody to obey."""
        if self.end is not None and time.perf_counter() >= self.end:
            self.end = None
            say(**self.meter.result(time.perf_counter()))
        while not self.running or select.select([0], [], [], 0)[0]:
            data = os.read(0, 4096)
            if not data:
                sys.exit(0)
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                self.obey(*line.decode().split())

    def obey(self, verb, argument="0"):
        if verb == "measure":
            now = time.perf_counter()
            self.end = now + float(argument)
            self.meter.begin(now)
        elif verb == "tracemalloc":
            set_tracemalloc(int(argument))
        else:
            self.running = verb == "run"


def loop(request, **more):
    """A service that makes its own requests: request() over and over, as the commands say."""
    meter = Meter()
    commands = Commands(meter)
    clock = time.perf_counter
    ready("self", **more)
    look = 0.0
    while True:
        before = clock()
        if before >= look:
            commands.look()
            before = clock()
            look = before + LOOK
        request()
        meter.add(clock() - before)


def obey_in_background(at_end=lambda: os._exit(0)):
    """For a server: a thread that sleeps in a read until a command comes."""

    def obey():
        for line in iter(sys.stdin.readline, ""):
            verb, argument = line.split()
            if verb == "tracemalloc":
                set_tracemalloc(int(argument))
        at_end()

    threading.Thread(target=obey, name="commands", daemon=True).start()


class Connection:
    """A client that sends its next request as soon as it has the answer to the last one."""

    def __init__(self, port, requests, complete):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests, self.complete = requests, complete
        self.turn = 0
        self.answer = b""
        self.send()

    def send(self):
        self.answer = b""
        self.turn += 1
        self.sent = time.perf_counter()
        self.socket.sendall(self.requests[self.turn % len(self.requests)])

    def receive(self):
        """Whether the answer is complete."""
        data = self.socket.recv(65536)
        if not data:
            sys.exit("the server closed a connection")
        self.answer += data
        return self.complete(self.answer)


def generate(port, connections, requests, complete):
    """The load generator: `connections` clients in one thread, each with one request on its way."""
    meter = Meter()
    commands = Commands(meter)
    selector = selectors.DefaultSelector()
    look = 0.0
    commands.look()
    for _ in range(connections):
        client = Connection(port, requests, complete)
        selector.register(client.socket, selectors.EVENT_READ, client)
    while True:
        for key, _ in selector.select(LOOK):
            client = key.data
            if client.receive():
                meter.add(time.perf_counter() - client.sent)
                client.send()
        if time.perf_counter() >= look:
            commands.look()
            look = time.perf_counter() + LOOK


def line_complete(answer):
    return answer.endswith(b"\n")


def http_complete(answer):
    """Whether head and body are there. The servers of the bench send a Content-Length, in this spelling."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit("the server answered %r" % answer[:head])
    at = answer.index(b"Content-Length:", 0, head) + len(b"Content-Length:")
    return len(answer) >= head + 4 + int(answer[at:answer.index(b"\r\n", at)])
