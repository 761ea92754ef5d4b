# SPDX-License-Identifier: MIT
"""A real Prometheus that scrapes a port of this machine every second."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: leaksnoop
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Prometheus:
    def __init__(self, directory, port):
        binary = shutil.which("prometheus", path=os.environ["PATH"] + ":/usr/bin:/usr/local/bin")
        assert binary, "needs prometheus (Debian package prometheus)"
        config, self.log = directory / "prometheus.yml", directory / "log"
        config.write_text(CONFIG % port)
        self.url = "http://127.0.0.1:%d" % free_port()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([binary, "--config.file=%s" % config, "--storage.tsdb.path=%s" % (directory / "data"),
                                             "--web.listen-address=%s" % self.url[7:]], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def query(self, expression):
        url = "%s/api/v1/query?%s" % (self.url, urllib.parse.urlencode({"query": expression}))
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []

    def wait(self, expression, timeout=60):
        deadline = time.monotonic() + timeout
        while not (found := self.query(expression)):
            assert self.process.poll() is None and time.monotonic() < deadline, "%s: %s" % (expression, self.log.read_text()[-2000:])
            time.sleep(0.2)
        return found
