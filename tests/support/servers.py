"""Real servers on ports of their own: one that takes mail, one that takes webhooks, one that says nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"


@dataclass
class MailServer:
    """What a mail server got.  `answer` is what it says to a message; recipients in `refused` are turned away."""

    port: int = 0
    answer: str = "250 taken"
    refused: set[str] = field(default_factory=set)
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:
        if address in self.refused:
            return "550 no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            assert isinstance(envelope.content, bytes)
            mail = BytesParser(policy=modern).parsebytes(envelope.content)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer


@contextmanager
def mail_server(port: int = 0) -> Iterator[MailServer]:
    """A real SMTP server; `port` only for one that comes back where it was."""
    state = MailServer()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(state, hostname="mail.test", loop=loop), HOST, port))
    state.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@dataclass
class WebServer:
    """What a web server got.  `answer` is the status that it gives, after `delay` seconds, with `location` if there is one."""

    port: int = 0
    answer: int = 200
    delay: float = 0.0
    location: str = ""
    gets: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def web_server(port: int = 0) -> Iterator[WebServer]:
    """A real HTTP server that takes JSON."""
    state = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the sender died over it
            time.sleep(state.delay)
            if state.answer < 300:
                state.paths.append(self.path)
                state.headers.append(dict(self.headers))
                state.bodies.append(json.loads(body))
            self.send_response(state.answer)
            if state.location:
                self.send_header("Location", state.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            state.gets.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((HOST, port), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def trickling_server(first: bytes = b"HTTP/1.1 200 OK\r\n", more: bytes = b"x", interval: float = 0.1) -> Iterator[int]:
    """The port of a server that sends `first` to whoever connects, then `more` now and then, and never comes to an end."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def trickle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the other side had enough
            connection.sendall(first)
            while not over.wait(interval):
                connection.sendall(more)

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # shut: the test is over
            while True:
                threads.append(threading.Thread(target=trickle, args=(server.accept()[0],)))
                threads[-1].start()

    with socket.create_server((HOST, 0), backlog=100) as server:
        threads.append(threading.Thread(target=serve, args=(server,)))
        threads[0].start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections: nobody else gets it meanwhile, but a server of this module may come up there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield holder.getsockname()[1]
