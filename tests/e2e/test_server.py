# SPDX-License-Identifier: MIT
"""The HTTP server of 'watch' and its metrics: real clients, hostile ones, and Prometheus itself. The server stands in a program of its own
(tests/unit/test_server.c), which shows a made-up view and counts how often it was woken."""

import contextlib
import http.client
import os
import random
import re
import socket
import subprocess
import threading
import time

import pytest

import harness
from prometheus import Prometheus

PROGRAM = harness.ROOT / "build" / "unit" / "test_server"
CONNECTIONS = 16
QUICK = 10000


class Server:
    def __init__(self, where="0", processes=3):
        assert PROGRAM.exists(), "%s is not built (make unit)" % PROGRAM
        self.process = subprocess.Popen([str(PROGRAM), "--serve", where, str(processes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = harness.Lines(self.process.stdout)
        self.url = self.lines.wait("", 20)
        self.port = int(self.url.rsplit(":", 1)[1]) if self.url.startswith("http") else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def order(self, letter):
        """Returns how many steps it has made so far."""
        before = len(self.lines.seen)
        self.process.stdin.write(letter)
        self.process.stdin.flush()
        return int(self.lines.wait("", 20, since=before))

    def steps(self):
        return self.order(b"s")

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def get(self, path="/metrics", method="GET", headers={}, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def check_alive(self):
        status, _, body = self.get()
        assert status == 200 and body.endswith(b"\n") and b"leaksnoop_build_info" in body

    def stop(self):
        """It ends of its own accord, and well."""
        self.process.stdin.close()
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def server():
    with Server() as started:
        yield started
        started.check_alive()
        started.stop()


@pytest.fixture(scope="module", autouse=True)
def lingering():
    """A server with clients that take their time, begun before all other tests so that the last one need not wait so long: one sends a
    byte now and then, which is not silence, one never reads the answer it asked for."""
    done = threading.Event()

    def dribble(connection):
        while not done.wait(0.5):
            with contextlib.suppress(OSError):
                connection.sendall(b"G")

    with Server(processes=400) as server, contextlib.ExitStack() as clients:
        server.idle = server.descriptors()
        slow, reader = (clients.enter_context(server.connect()) for _ in range(2))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        thread = threading.Thread(target=dribble, args=[slow])
        thread.start()
        try:
            yield server
        finally:
            done.set()
            thread.join()


def test_pages(server):
    status, headers, body = server.get()
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body) > 5000
    assert b'\nleaksnoop_process_verdict{pid="100",app="app.py",verdict="leak"} 1\n' in body
    status, headers, nothing = server.get(method="HEAD")
    assert (status, nothing) == (200, b"") and int(headers["Content-Length"]) > 5000
    assert server.get("/healthz")[0::2] == (200, b"history ok\n")
    status, headers, body = server.get("/")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and b'"/metrics"' in body
    assert server.get("/metrics?name[]=x")[0] == 200


def test_every_metric_is_documented(server):
    """By its name, or by the end of it after another's ("`leaksnoop_process_live_bytes`, `_live_blocks`")."""
    text = (harness.ROOT / "docs" / "service.md").read_text()
    names = re.findall(r"^# TYPE (\w+) ", server.get()[2].decode(), re.M)
    assert len(names) > 30
    ends = tuple(re.findall(r"`(_\w+)", text))
    assert [name for name in names if not (re.search(r"`%s[`{]" % name, text) or name.endswith(ends))] == []


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "//metrics", "/../metrics", "/%2e%2e/etc/passwd", "/" + "x" * 3000, "/healthz/x"])
def test_other_paths(server, path):
    status, _, body = server.get(path)
    assert status == 404 and b"passwd" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "LEAK"])
def test_other_methods(server, method):
    status, headers, _ = server.get("/metrics", method=method, body=b"x" * 100 if method == "POST" else None)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


def test_not_healthy():
    with Server() as server:
        server.order(b"h")
        assert server.get("/healthz")[0::2] == (503, b"history failed\n")


def test_curl_and_unix_socket(tmp_path):
    path = tmp_path / "socket"
    with Server("unix:%s" % path) as server:
        assert server.url == "unix:%s" % path
        assert path.stat().st_mode & 0o777 == 0o660
        command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "30", "--unix-socket", str(path), "http://localhost/metrics"]
        text = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert (checked.returncode, checked.stdout) == (0, b"")
        server.stop()
        assert not path.exists()


def test_killed_server_leaves_no_socket_in_the_way(tmp_path):
    path = tmp_path / "socket"
    with Server("unix:%s" % path):
        pass
    assert path.exists()
    with Server("unix:%s" % path) as server:
        server.stop()


HOSTILE = [
    b"\0" * 1000, b"\r\n" * 5000, b"GET", b"GET /metrics HTTP/9.9\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /metrics\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500,
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * 60000 + b"\r\n\r\n",
    b"HEAD /metrics HTTP/1.0\r\n\r\n" * 50,
]


def test_hostile_bytes(server):
    chance = random.Random(7)
    noise = [bytes(chance.randrange(256) for _ in range(chance.randrange(1, 3000))) for _ in range(300)]
    for data in HOSTILE + noise:
        with server.connect() as connection, contextlib.suppress(OSError):
            connection.settimeout(0.1)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    server.check_alive()


def test_quick_connections(server):
    """Some say something, some hang up at once, some with a reset. Descriptors are as many as before."""
    chance = random.Random(9)
    before = server.descriptors()
    for number in range(QUICK):
        with server.connect() as connection:
            if number % 3 == 0:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"[:chance.randrange(40)])
            if number % 2 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.check_alive()
    deadline = time.monotonic() + 30
    while server.descriptors() > before:
        assert time.monotonic() < deadline, "they are still there"
        time.sleep(0.05)


def test_stalled_clients_hold_up_nobody():
    """As many as there may be: half a request, nothing, a byte now and then, and an answer that is not read. The others are served, the
    server sleeps in between, and those that send no request are put out."""
    with Server(processes=400) as server:
        reader = server.connect()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        stalled = [server.connect() for _ in range(2 * CONNECTIONS)]
        for number, connection in enumerate(stalled):
            connection.sendall([b"GET /metr", b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-"][number % 3])
        server.check_alive()
        before, ended, start = server.steps(), 0, time.monotonic()
        while time.monotonic() < start + 1:
            time.sleep(0.1)
            for connection in stalled:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
        seconds = time.monotonic() - start
        assert server.steps() - before < 200 + 40 * CONNECTIONS * seconds
        for connection in stalled:
            connection.setblocking(False)
            try:
                ended += connection.recv(1000)[-1:] == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                ended += 1
        assert ended > 0, "nobody was put out to make room"
        # Idle now: whoever is left makes no work.
        before = server.steps()
        time.sleep(1)
        assert server.steps() - before < 50
        server.check_alive()
        for connection in [reader, *stalled]:
            connection.close()
        server.stop()


# ---- Prometheus ----

def documented_queries():
    """The expressions of docs/service.md: what is shown there must work."""
    text = (harness.ROOT / "docs" / "service.md").read_text()
    return [" ".join(line.split()) for block in re.findall(r"```promql\n(.*?)```", text, re.S) for line in block.splitlines()
            if line.strip() and not line.startswith("#")]


def test_prometheus(tmp_path):
    with Server(processes=20) as server, Prometheus(tmp_path, server.port) as prometheus:
        prometheus.wait('up{job="leaksnoop"} == 1')
        assert len(prometheus.wait("leaksnoop_process_resident_memory_bytes")) == 20
        dropped = prometheus.wait("scrape_samples_scraped - scrape_samples_post_metric_relabeling")
        assert float(dropped[0]["value"][1]) == 0
        queries = documented_queries()
        assert len(queries) >= 4
        for expression in queries:
            assert prometheus.wait(expression), expression
        warnings = [line for line in prometheus.log.read_text().splitlines() if "level=warn" in line and "scrape" in line]
        assert warnings == []
        server.check_alive()


def test_connections_last_no_longer_than_they_may(lingering):
    """20 s, by the server's own clock; that they were there at all is seen in the other test of stalled clients."""
    deadline = time.monotonic() + 60
    while lingering.descriptors() > lingering.idle:
        assert time.monotonic() < deadline, "they are still there"
        time.sleep(0.2)
    lingering.check_alive()
    lingering.stop()
