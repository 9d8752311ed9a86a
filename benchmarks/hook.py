"""A web server that the owners of jobs are told by, and that counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click

from benchmarks.engine import WARM_UP

_PATIENCE = 300.0


class Hook:
    """The messages that came.  `sections`: of the configuration of an engine that sends one here for each job that ended."""

    def __init__(self, port: int) -> None:
        target = {"url": f"json://127.0.0.1:{port}/"}
        self.sections: dict[str, Any] = {"notification": {"targets": {"hook": target}, "default": ["hook"]}}
        self._count = 0
        self._wanted = WARM_UP
        self._changed = threading.Condition()

    def add(self) -> None:
        """One more."""
        with self._changed:
            self._count += 1
            self._changed.notify()

    def wait(self, jobs: int) -> None:
        """Waits until so many more messages have come than were waited for before; first those of the engine's warming up."""
        self._wanted += jobs
        with self._changed:
            if not self._changed.wait_for(lambda: self._count >= self._wanted, _PATIENCE):
                raise click.ClickException(f"{self._count} of {self._wanted} messages have come after {_PATIENCE:g} s")


@contextmanager
def a_hook() -> Iterator[Hook]:
    """A server that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            hook.add()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Hook(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
