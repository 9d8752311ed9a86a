"""A genuine MongoDB for the tests, and connections to it that lose answers."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

HOST = "127.0.0.1"
_FROM_PYPI = ("fiftyone", "db", "bin", "mongod")
"""where the package of the extra `test` keeps its mongod, below site-packages"""
_FITTING = ("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--setParameter", "enableTestCommands=1")
"""no socket left behind by a killed server; memory for many at once; failpoints"""
_START_TIMEOUT = 60.0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def server_program() -> str | None:
    """A mongod that runs on this machine, if there is one: that of the PATH, else the one that the extra `test` brings."""
    return next((found for found in (shutil.which("mongod"), _installed()) if found and _trouble(found) is None), None)


def missing() -> str:
    """Why there is no server, and how to get one."""
    installed = _installed()
    why = f"mongod does not run here ({_trouble(installed)})" if installed else "no mongod"
    return f"{why}: apt-get install libcurl4 (x86-64 with AVX), put a mongod on the PATH, or set EXECD_TEST_MONGODB_URL"


def _installed() -> str | None:
    package = importlib.util.find_spec(_FROM_PYPI[0])
    places = (package.submodule_search_locations if package else None) or []
    return next((str(path) for place in places if (path := Path(place, *_FROM_PYPI[1:])).is_file()), None)


@functools.cache
def _trouble(program: str) -> str | None:
    """Why it does not run; None if it does."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def wait_until(condition: Callable[[], Any], what: str, timeout: float = _START_TIMEOUT) -> Any:
    """The first true value of `condition`; a server that does not answer meanwhile is asked again."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if found := condition():
                return found
        except PyMongoError as error:
            last: Exception | None = error
        else:
            last = None
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s ({last})")
        time.sleep(0.02)


class MongoServer:
    """A mongod of our own, on a free port with a temporary directory; it can be stopped, and started again there.

    `options`: more of its command line; `query`: what its URL has behind the address, such as `?tls=true`.
    """

    def __init__(self, program: str, *options: str, query: str = "") -> None:
        self._program = program
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="execd-mongodb-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.url = f"mongodb://{self.address}/{query}"

    def launch(self) -> None:
        """Starts the process, and does not wait for it."""
        command = [self._program, "--bind_ip", HOST, "--port", str(self.port), "--dbpath", str(self._directory), *_FITTING]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self) -> None:
        """Returns when it answers."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        """Until it takes connections."""
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._listens():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._program} did not start:\n{(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def runs(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> pymongo.MongoClient[Any]:
        """A connection to this very server, whatever set it is of."""
        return pymongo.MongoClient(self.url, directConnection=True, serverSelectionTimeoutMS=1000, **options)

    def pause(self) -> None:
        """It stands still, and its connections with it: what others see of a node that is cut off."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on.  Harmless when it has been killed."""
        if self._process is not None:
            os.kill(self.pid, signal.SIGCONT)

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
