"""The keeper's process: one thread, one loop over its socket and its children; it never blocks.

It is started by `client`, detached from it, the only one of its system and run directory (a lock says so).  It survives the
engine, and ends when it has no jobs and nobody has talked to it for a while.  When it is killed its jobs run on, and the next
keeper adopts them.
The protocol: a request is a line of JSON, and so is its answer; a connection may carry several.  The answer to `run` may come in
several lines, which together have the outcome of each job.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any

from setproctitle import setproctitle

from execution_engine.systems.local_keeper.batch import Batch
from execution_engine.systems.local_keeper.kept_jobs import KeptJobs, Refusal
from execution_engine.systems.local_keeper.processes import Identity, ProcessTable, uptime
from execution_engine.systems.local_keeper.records import Order

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 1 << 16
_BACKLOG = 64
_NEWS_INTERVAL = 0.05
"""Seconds between two hints to the monitor: the first comes at once, and those of many short jobs together."""


class _Connection:
    """One actor: what it has sent of a request, and what it has not yet read of an answer."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._request = bytearray()
        self._answer = bytearray()

    @property
    def events(self) -> int:
        return selectors.EVENT_WRITE if self._answer else selectors.EVENT_READ

    @property
    def hung_up(self) -> bool:
        """Whether the actor is gone; this process may have stood still, and its jobs be another's since."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def receive(self) -> list[bytes]:
        """The requests that are complete now.  Raises ConnectionError at the end."""
        chunk = self.socket.recv(_CHUNK)
        if not chunk:
            raise ConnectionResetError
        self._request += chunk
        *complete, rest = self._request.split(b"\n") if b"\n" in chunk else [self._request]
        self._request = bytearray(rest)
        return [bytes(line) for line in complete]

    def answer(self, content: dict[str, Any]) -> None:
        self._answer += json.dumps(content).encode("ascii") + b"\n"

    def flush(self) -> None:
        if self._answer:
            with contextlib.suppress(BlockingIOError):
                del self._answer[: self.socket.send(self._answer)]


class Keeper:
    """The loop.  `listener`, the job script's path and `home` come from `main`."""

    def __init__(self, name: str, script: str, home: str, directory: int, listener: socket.socket, idle: float) -> None:
        self._name = name
        self._directory = directory
        self._listener = listener
        self._idle = idle
        self._talked = uptime()
        self._connections: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._jobs = KeptJobs(script, home, self._note_news)
        self._waker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._requests = {"watch": self._watch, "kill": self._kill, "holds": self._holds}
        self._batches: dict[_Connection, Batch] = {}
        self._has_news = False
        self._news_at = 0.0

    def serve(self) -> None:
        """Works until there is nothing left to do."""
        children, signalled = socket.socketpair()
        for end in (children, signalled):
            end.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._selector.register(children, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._is_idle():
            for key, _ in self._selector.select(self._wait_time()):
                if key.fileobj is children:
                    children.recv(_CHUNK)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(self._connections[key.fd])
            self._jobs.reap()
            self._proceed()
            if self._jobs.attend():
                self._proceed()
            self._wake_monitor()

    # --- connections

    def _is_idle(self) -> bool:
        return not self._jobs and not self._connections and uptime() >= self._talked + self._idle

    def _wait_time(self) -> float | None:
        moments = [self._jobs.due(), *(batch.due() for batch in self._batches.values())]
        if self._has_news:
            moments.append(self._news_at)
        if not self._jobs and not self._connections:
            moments.append(self._talked + self._idle)
        first = min(moments)
        return None if first == float("inf") else max(0.0, first - uptime())

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection = _Connection(self._listener.accept()[0])
            self._connections[connection.socket.fileno()] = connection
            self._selector.register(connection.socket, connection.events)

    def _serve(self, connection: _Connection) -> None:
        self._talked = uptime()
        try:
            for line in connection.receive() if connection.events == selectors.EVENT_READ else ():
                self._answer(connection, line)
        except BlockingIOError:
            return
        except ConnectionError:
            self._forget(connection)
        else:
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        try:
            connection.flush()
        except ConnectionError:
            self._forget(connection)
        else:
            self._selector.modify(connection.socket, connection.events)

    def _forget(self, connection: _Connection) -> None:
        """Jobs that wait for a slot are started for nobody: another actor may have them by now."""
        self._batches.pop(connection, None)
        self._selector.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _answer(self, connection: _Connection, line: bytes) -> None:
        try:
            request = json.loads(line)
            if request["op"] == "run":
                self._run(connection, request)
            else:
                connection.answer({"outcomes": self._requests[request["op"]](request)})
        except (ValueError, KeyError, TypeError) as error:
            connection.answer({"error": f"bad request: {error!r}"})

    # --- requests

    def _run(self, connection: _Connection, request: dict[str, Any]) -> None:
        if connection in self._batches:
            raise ValueError("another one is under way")
        orders = [Order(*order) for order in request["jobs"]]
        slots, until = int(request["slots"]), float(request["until"])
        self._batches[connection] = Batch(orders, dict(request["environment"]), slots, until, uptime())

    def _proceed(self) -> None:
        """Starts jobs that wait, in the order of the requests, and tells of those that were started."""
        others_wait = False
        for connection, batch in list(self._batches.items()):
            if connection.hung_up:
                self._forget(connection)
                continue
            outcomes = batch.proceed(self._jobs, uptime(), its_turn=not others_wait)
            others_wait = others_wait or batch.waits
            if batch.over:
                del self._batches[connection]
            if outcomes or batch.over:
                told = [outcome._asdict() if isinstance(outcome, Refusal) else {"id": str(outcome)} for outcome in outcomes]
                connection.answer({"outcomes": told})
                self._flush(connection)

    def _watch(self, request: dict[str, Any]) -> list[bool]:
        table = functools.cache(ProcessTable.now)
        return [self._jobs.watch(Order(*order), Identity(*leader), table) is not None for order, leader in request["jobs"]]

    def _holds(self, request: dict[str, Any]) -> list[bool]:
        return [self._jobs.holds(str(directory), int(attempt)) for directory, attempt in request["jobs"]]

    def _kill(self, request: dict[str, Any]) -> list[bool]:
        table = functools.cache(ProcessTable.now)
        return [self._jobs.kill(Order(*order), Identity(*leader), table) for order, leader in request["jobs"]]

    def _note_news(self) -> None:
        self._has_news = True

    def _wake_monitor(self) -> None:
        """The engine's monitor looks by itself, too; if nobody listens, nothing is lost."""
        if not self._has_news or uptime() < self._news_at:
            return
        self._has_news, self._news_at = False, uptime() + _NEWS_INTERVAL
        with contextlib.suppress(OSError):
            self._waker.sendto(json.dumps({"system": self._name}).encode(), f"/proc/self/fd/{self._directory}/wake")


def main() -> None:
    """Makes the keeper, and returns in the process that was started as soon as it serves.

    Arguments: the run directory, the base name of lock and socket in it, the system's name, the job script's path in a job's
    directory, and the seconds after which an idle keeper ends.
    """
    run_dir, base, name, script, idle = sys.argv[1:]
    os.umask(0o077)
    os.chdir("/")
    directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open(f"{base}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another one serves, or will at once
    listener = _listen(directory, f"{base}.sock")
    if os.fork():
        os._exit(0)
    setproctitle(f"execd: local {name}")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what jobs leave behind becomes our child
    run = os.fstat(directory)
    Keeper(name, script, f"{run.st_dev}.{run.st_ino}/{base}", directory, listener, float(idle)).serve()
    os.unlink(f"{base}.sock", dir_fd=directory)


def _listen(directory: int, name: str) -> socket.socket:
    """A socket in the directory, whatever the length of its path.  The lock is ours, so one that is there is a dead keeper's."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    listener.bind(f"/proc/self/fd/{directory}/{name}")
    os.chmod(name, 0o600, dir_fd=directory)
    listener.listen(_BACKLOG)
    return listener
