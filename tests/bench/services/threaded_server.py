# SPDX-License-Identifier: MIT
"""Threaded server: ThreadingHTTPServer with keep-alive, one thread for each of eight clients, a session store with a lock.

    threaded_server.py                the service; --client PORT: its clients
"""

import http.server
import json
import sys
import threading
import urllib.parse

import meter

SESSIONS = 500
sessions = {}
lock = threading.Lock()


def visit(user, page):
    """The session store holds SESSIONS users; the eldest makes room."""
    with lock:
        session = sessions.pop(user, None) or {"user": user, "pages": []}
        session["pages"] = session["pages"][-9:] + [page]
        sessions[user] = session
        if len(sessions) > SESSIONS:
            del sessions[next(iter(sessions))]
        return list(session["pages"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        pages = visit(query["user"][0], query["page"][0])
        body = json.dumps({"user": query["user"][0], "pages": pages, "text": " ".join(pages).title()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    meter.obey_in_background()
    meter.ready("client", port=server.server_address[1])
    server.serve_forever()


def requests():
    form = "GET /visit?user=u%d&page=p%d HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\n\r\n"
    return [(form % (n * 37 % 2000, n % 90)).encode() for n in range(1000)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        meter.generate(int(sys.argv[2]), 8, requests(), meter.http_complete)
    serve()
