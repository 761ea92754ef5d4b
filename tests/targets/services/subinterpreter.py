# SPDX-License-Identifier: MIT
"""Runs a program in a sub-interpreter, with a GIL of its own or with the main one's. In it __name__ is "__sub_main__"."""

import os
import sys
import threading
import time

SOURCE = """
import sys
sys.path.insert(0, {folder!r})
names = {{"__name__": "__sub_main__", "__file__": {path!r}}}
with open({path!r}, encoding="utf-8") as file:
    exec(compile(file.read(), {path!r}, "exec"), names)
"""


def create(own_gil):
    """A function that runs source text in a new interpreter."""
    if sys.version_info >= (3, 13):
        import _interpreters

        number = _interpreters.create("isolated" if own_gil else "legacy")
        return lambda source: _interpreters.exec(number, source)
    import _xxsubinterpreters

    # Up to 3.11 isolated means: no threads, no fork; in 3.12 it means a GIL of its own, too.
    number = _xxsubinterpreters.create(isolated=own_gil)
    return lambda source: _xxsubinterpreters.run_string(number, source)


def run_main(path, own_gil):
    execute = create(own_gil)
    source = SOURCE.format(folder=os.path.dirname(os.path.abspath(path)), path=path)

    def body():
        error = execute(source)
        os.write(2, ("ended: %s\n" % (error,)).encode())
        os._exit(3)

    threading.Thread(target=body, daemon=True).start()
    while True:
        time.sleep(0.1)
