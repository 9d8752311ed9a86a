"""How an actor talks to the keeper of a Local system, and starts one where none is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import setproctitle

import execution_engine
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import JOB_SCRIPT
from execution_engine.jobs.job import safe_name

PROTOCOL = 2
"""Another number for requests that an older keeper would not understand: such a one keeps its jobs, beside the new."""
IDLE = 10.0
"""Seconds after which a keeper without jobs ends."""

_REACH_TIMEOUT = 15.0
_ANSWER_TIMEOUT = 30.0
_ATTEMPTS = 3
_PAUSES = (0.01, 0.5)
"""Seconds between two tries to reach a keeper, at first and at most: one whose socket is gone makes it anew within seconds."""
_CHECK_INTERVAL = 5.0
_GRACE = 0.5
"""Seconds in which a keeper may have its lock and not yet, or no longer, its socket: it begins or ends."""


class KeeperClient:
    """The way to one keeper.  The constructor touches nothing; each request has a connection of its own."""

    def __init__(self, run_dir: Path, name: str, idle: float = IDLE) -> None:
        self._run_dir = run_dir
        self._name = name
        self._idle = idle
        self._check_at = 0.0
        self._failed = ""
        self._base = f"local-{safe_name(name)}.{PROTOCOL}"

    def ask(self, op: str, jobs: list[Any], **more: Any) -> list[Any]:
        """The outcome for each of the jobs.  Raises as `stream` does."""
        return list(self.stream(op, jobs, **more))

    def stream(self, op: str, jobs: list[Any], **more: Any) -> Iterator[Any]:
        """The outcome for each of the jobs, as they come; the request is sent before this returns.

        Every request is safe to repeat, and is when a keeper dies over it.  Raises ExecutionSystemError(transient=True) when no
        keeper can be reached: nothing was asked then.  Raises OSError when it did not answer: whether it did what was asked is
        not known.
        """
        outcomes = self._outcomes(op, jobs, more)
        next(outcomes)
        return outcomes

    def _outcomes(self, op: str, jobs: list[Any], more: dict[str, Any]) -> Iterator[Any]:
        """What `stream` returns, after a first None when the request was sent."""
        told = 0
        asked = sent = False
        for _ in range(_ATTEMPTS):
            try:
                with self._connected() as connection:
                    asked = True
                    connection.sendall(json.dumps({"op": op, "jobs": jobs[told:], **more}).encode("ascii") + b"\n")
                    if not sent:
                        sent = True
                        yield None
                    for outcomes in self._answers(connection):
                        told += len(outcomes)
                        yield from outcomes
                        if told == len(jobs):
                            return
            except ConnectionError:
                continue
            except ExecutionSystemError as error:
                if asked:
                    raise ConnectionResetError(f"the keeper ended over {op}, and: {error}") from error
                raise
        raise ConnectionResetError(f"the keeper of {self._name} ended {_ATTEMPTS} times over {op}; see {self._log}")

    def check(self) -> None:
        """Raises ExecutionSystemError(transient=True) when there is trouble.  Looks every few seconds only."""
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_INTERVAL
            if trouble := self.trouble():
                self._check_at = 0.0
                raise ExecutionSystemError(trouble, transient=True)

    def trouble(self) -> str:
        """What is wrong with the keeper that runs, or that could not be reached last; else empty.  Starts nothing."""
        deadline = time.monotonic() + _GRACE
        try:
            while self._is_locked():
                with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
                    connection.settimeout(_GRACE)
                    if self._connect(connection) is not False:
                        return ""
                if time.monotonic() > deadline:
                    return f"its keeper runs, but its socket {self._base}.sock is gone; the keeper makes it anew within seconds"
                time.sleep(_PAUSES[0])
        except OSError as error:
            return f"its keeper cannot be reached: {error}"
        return self._failed

    def _is_locked(self) -> bool:
        """Whether a keeper has the lock."""
        try:
            lock = os.open(self._run_dir / f"{self._base}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    @property
    def _log(self) -> Path:
        return self._run_dir / f"{self._base}.log"

    def _answers(self, connection: socket.socket) -> Iterator[list[Any]]:
        """Until the keeper hangs up; a line that was cut short counts as not received."""
        for line in connection.makefile("rb"):
            if line.endswith(b"\n"):
                answer = json.loads(line)
                if "error" in answer:
                    raise ValueError(f"the keeper of {self._name} refused: {answer['error']}")
                yield list(answer["outcomes"])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """A connection to the keeper, which is started if there is none."""
        deadline = time.monotonic() + _REACH_TIMEOUT
        pause, longest = _PAUSES
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(_ANSWER_TIMEOUT)
            try:
                while (there := self._connect(connection)) is not True:
                    if time.monotonic() > deadline:
                        raise ExecutionSystemError(f"no keeper of {self._name} answers; see {self._log}", transient=True)
                    if there is False:
                        self._start()
                    time.sleep(pause)
                    pause = min(2 * pause, longest)
            except OSError as error:
                self._failed = f"cannot reach the keeper of {self._name}: {error}"
                raise ExecutionSystemError(self._failed, transient=True) from error
            self._failed = ""
            yield connection

    def _connect(self, connection: socket.socket) -> bool | None:
        """False when nobody listens, None when too many wait to be heard.

        Goes through the directory's descriptor: a socket's path may have 107 characters only.
        """
        directory = os.open(self._run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{self._base}.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return None
        finally:
            os.close(directory)
        return True

    def _start(self) -> None:
        """Starts a keeper, detached from this process, and returns when it serves, or when another one is about to.

        Without `site`, and with the two places that it needs at the end of its path: that saves it a third of its memory.
        """
        places = [str(Path(module.__file__ or "").parents[1]) for module in (execution_engine, setproctitle)]
        code = f"import sys; sys.path.extend({places!r}); from execution_engine.systems.local_keeper.server import main; main()"
        arguments = [str(self._run_dir), self._base, self._name, JOB_SCRIPT, str(self._idle)]
        with open(self._log, "ab") as log:
            done = subprocess.run(
                [sys.executable, "-P", "-s", "-S", "-c", code, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                start_new_session=True,
                timeout=_REACH_TIMEOUT,
                check=False,
            )
        if done.returncode != 0:
            raise ExecutionSystemError(f"the keeper of {self._name} does not start; see {self._log}", transient=True)
