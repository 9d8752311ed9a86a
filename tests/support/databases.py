"""A real MongoDB-speaking server for the tests, whichever the machine has, and a connection that loses answers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

HOST = "127.0.0.1"
MISSING = (
    "no MongoDB-speaking server: run tests/testbed/mongodb-java/build (needs a JDK and Maven) or tests/testbed/mongodb/build "
    "(needs Go), or set EXECD_TEST_MONGODB_URL"
)
_TESTBED = Path(__file__).parent.parent / "testbed"
_QUICK = _TESTBED / "mongodb-java" / "built" / "mongo-java-server"
_FERRETDB = _TESTBED / "mongodb" / "ferretdb"
_START_TIMEOUT = 60.0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def server_program() -> str | None:
    """The best program that can be started as a MongoDB-speaking server, if there is one: FerretDB is correct, and slow."""
    return _first(shutil.which("mongod"), os.environ.get("EXECD_TEST_FERRETDB"), str(_QUICK)) or ferretdb_program()


def ferretdb_program() -> str | None:
    """FerretDB, on which the job store works otherwise than on the other servers."""
    return _first(os.environ.get("EXECD_TEST_FERRETDB"), str(_FERRETDB), shutil.which("ferretdb"))


def _first(*candidates: str | None) -> str | None:
    return next((found for found in candidates if found and os.access(found, os.X_OK)), None)


class MongoServer:
    """A server of our own, on a free port with a temporary directory; it can be stopped and started again there."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._directory = Path(tempfile.mkdtemp(prefix="execd-mongodb-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"mongodb://{HOST}:{self.port}/"

    def start(self) -> None:
        """Returns when it answers."""
        address = f"{HOST}:{self.port}"
        data = str(self._directory)
        if Path(self._program).name == "mongod":
            command = [self._program, "--bind_ip", HOST, "--port", str(self.port), "--dbpath", data, "--quiet"]
        else:
            command = [self._program, "-listen", address, "-directory", data]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait()

    def stop(self) -> None:
        """Kills it: what a client sees of a machine that fails."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """Stops it for good."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        with pymongo.MongoClient[Any](self.url, serverSelectionTimeoutMS=100) as client:
            while True:
                try:
                    client.admin.command("ping")
                    return
                except PyMongoError:
                    if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                        self.stop()
                        raise RuntimeError(
                            f"{self._program} did not start:\n{(self._directory / 'log').read_text()[-2000:]}"
                        ) from None


class GivenServer:
    """The server that EXECD_TEST_MONGODB_URL names; it cannot be stopped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = None

    def end(self) -> None:
        """Nothing: it is not ours."""


class Proxy(ABC):
    """Stands between clients and a server, and decides on each answer."""

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listener = socket.create_server((HOST, 0))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends all connections."""
        for connection in (self._listener, *self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            finally:
                connection.close()

    @abstractmethod
    def answer(self, request: bytes, server: socket.socket) -> bytes:
        """What the client gets; nothing: its connection is cut in the answer's place."""

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open += [client, server]
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while (request := message(client)) and (answer := self.answer(request, server)):
                client.sendall(answer)
        except OSError:
            return
        finally:
            client.close()
            server.close()


class LosingProxy(Proxy):
    """Passes everything on, and can lose one answer."""

    def __init__(self, port: int, marker: bytes) -> None:
        """Counts only the requests that contain `marker`."""
        super().__init__(port)
        self._marker = marker
        self._left = 0
        self.lost = 0

    def lose_answer(self, number: int) -> None:
        """The answer to the `number`th request from now will be lost."""
        self._left = number

    def answer(self, request: bytes, server: socket.socket) -> bytes:
        answer = passed_on(request, server)
        if self._marker in request and self._left:
            self._left -= 1
            if self._left == 0:
                self.lost += 1
                return b""
        return answer


def passed_on(request: bytes, server: socket.socket) -> bytes:
    """What the server answers."""
    server.sendall(request)
    return message(server)


def message(connection: socket.socket) -> bytes:
    """One whole message of MongoDB's protocol; empty at the end."""
    head = _exactly(connection, 4)
    return head + _exactly(connection, int.from_bytes(head, "little") - 4) if head else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)
