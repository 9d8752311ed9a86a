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
import functools
import json
import os
import resource
import selectors
import signal
import socket
import sys
from typing import Any

from setproctitle import setproctitle

from execution_engine.systems.local_keeper.address import Address
from execution_engine.systems.local_keeper.batch import Batch
from execution_engine.systems.local_keeper.complaints import bound_log, complain
from execution_engine.systems.local_keeper.kept_jobs import KeptJobs, Refusal
from execution_engine.systems.local_keeper.processes import Identity, ProcessTable, uptime
from execution_engine.systems.local_keeper.records import Order

_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 1 << 16
_CHECK_INTERVAL = 5.0
"""Seconds between two looks at whether this keeper can be found."""
_DEAF = 0.5
"""Seconds without new connections after one could not be had."""
_SILENT = 60.0
"""Seconds after which a connection that says nothing makes room for another, where there are too many."""
_NEWS_INTERVAL = 0.05
"""Seconds between two hints to the monitor: the first comes at once, and those of many short jobs together."""


class _Connection:
    """One actor: what it has sent of a request, and what it has not yet read of an answer."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.heard_at = uptime()
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
        self.heard_at = uptime()
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
    """The loop.  `address`, taken, the job script's path and `home` come from `main`."""

    def __init__(self, name: str, script: str, home: str, directory: int, address: Address, idle: float) -> None:
        self._name = name
        self._directory = directory
        self._address = address
        self._listening: socket.socket | None = None
        self._deaf_until = 0.0
        self._check_at = uptime() + _CHECK_INTERVAL
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        """connections at a time: what else it does takes descriptors, too"""
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
        while not self._is_idle():
            self._listen()
            for key, _ in self._selector.select(self._wait_time()):
                if key.fileobj is children:
                    children.recv(_CHUNK)
                elif key.fileobj is self._listening:
                    self._accept(self._listening)
                elif (connection := self._connections.get(key.fd)) is not None:
                    self._serve(connection)
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
        moments.append(self._check_at if self._listening is not None else min(self._check_at, self._deaf_until))
        return max(0.0, min(moments) - uptime())

    def _listen(self) -> None:
        """Sees to it that this keeper is found, and hears who comes, unless it has to be deaf for a moment."""
        now = uptime()
        if now >= self._check_at:
            self._check_at = now + _CHECK_INTERVAL
            self._check_address()
        wanted = self._address.listener if now >= self._deaf_until else None
        if wanted is not self._listening:
            if self._listening is not None:
                self._selector.unregister(self._listening)
            if wanted is not None:
                self._selector.register(wanted, selectors.EVENT_READ)
            self._listening = wanted

    def _check_address(self) -> None:
        try:
            if self._address.is_whole():
                return
            if self._listening is not None:
                self._selector.unregister(self._listening)
                self._listening = None
            self._address.restore()
        except OSError as error:
            complain(f"nobody finds this keeper, and it cannot make its lock and its socket anew: {error}")
        else:
            found = "made anew" if self._address.listener is not None else "another keeper has the lock"
            complain(f"the lock or the socket of this keeper was taken away: {found}")

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection = _Connection(listener.accept()[0])
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptor, no memory: who comes waits, and who has said nothing for long comes again
            complain(f"cannot take a connection now: {error}")
            self._most = max(1, len(self._connections) // 2)
            self._make_room(0.0)
            self._deaf_until = uptime() + _DEAF
            return
        self._connections[connection.socket.fileno()] = connection
        self._selector.register(connection.socket, connection.events)
        if len(self._connections) >= self._most:
            self._make_room(_SILENT)
            self._deaf_until = uptime() + _DEAF

    def _make_room(self, silent: float) -> None:
        """Hangs up on those who have said nothing for so many seconds, where there are too many, and wait for nothing."""
        most = len(self._connections) + 1 - self._most
        for connection in sorted(self._connections.values(), key=lambda each: each.heard_at)[:most]:
            if connection not in self._batches and connection.heard_at + silent <= uptime():
                self._forget(connection)

    def _serve(self, connection: _Connection) -> None:
        self._talked = uptime()
        try:
            for line in connection.receive() if connection.events == selectors.EVENT_READ else ():
                self._answer(connection, line)
        except BlockingIOError:
            return
        except OSError as error:  # also of what was asked: it is asked again
            if not isinstance(error, ConnectionError):
                complain(f"cannot answer now: {error}")
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
    address = Address(directory, base)
    if not address.take():
        return  # another one serves, or will at once
    with contextlib.suppress(OSError):
        bound_log()
    if os.fork():
        os._exit(0)
    setproctitle(f"execd: local {name}")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what jobs leave behind becomes our child
    run = os.fstat(directory)
    Keeper(name, script, f"{run.st_dev}.{run.st_ino}/{base}", directory, address, float(idle)).serve()
    address.give_up()
