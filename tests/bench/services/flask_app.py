# SPDX-License-Identifier: MIT
"""Flask under gunicorn: one worker of four threads, keep-alive; JSON and a Jinja template. wrk makes the requests."""

import os
import signal

import flask
import gunicorn.app.base
import jinja2

import meter

TEMPLATE = """<html><body><h1>{{ title }}</h1><ul>
{% for row in rows %}<li class="{{ loop.cycle('odd', 'even') }}">{{ row.name }}: {{ '%.2f' | format(row.price) }}</li>
{% endfor %}</ul></body></html>"""

app = flask.Flask(__name__)
app.jinja_loader = jinja2.DictLoader({"page.html": TEMPLATE})  # compiled once, as a file would be


def rows(page):
    return [{"name": "item %d <%d>" % (page, n), "price": page * 0.5 + n} for n in range(12)]


@app.route("/page/<int:page>")
def show(page):
    return flask.render_template("page.html", title="Page %d" % page, rows=rows(page))


@app.route("/rows/<int:page>")
def as_json(page):
    return flask.jsonify(page=page, rows=rows(page))


def end():
    """The driver has gone: the master ends with its worker, which it would start again otherwise."""
    os.kill(os.getppid(), signal.SIGTERM)


class Server(gunicorn.app.base.BaseApplication):
    """gunicorn without its command line: the same process forks the worker, so that a profiler around it sees both."""

    def load_config(self):
        for name, value in {"bind": "127.0.0.1:0", "workers": 1, "worker_class": "gthread", "threads": 4, "keepalive": 60,
                            "timeout": 0, "graceful_timeout": 1, "loglevel": "warning", "post_worker_init": self.begin}.items():
            self.cfg.set(name, value)

    @staticmethod
    def begin(worker):
        meter.obey_in_background(end)
        port = worker.sockets[0].getsockname()[1]
        meter.ready("wrk", port=port, paths=["/page/%d" % n for n in range(8)] + ["/rows/%d" % n for n in range(8)])

    def load(self):
        return app


if __name__ == "__main__":
    Server().run()
