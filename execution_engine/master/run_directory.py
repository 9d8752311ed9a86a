"""What a master has in its run directory: the pid file, by which others see it, and the log socket, by which it hears its own."""

from __future__ import annotations

import selectors
from pathlib import Path

from execution_engine import events
from execution_engine.errors import DaemonError
from execution_engine.events import Sink
from execution_engine.logger import LogReceiver
from execution_engine.master.pid_file import AlreadyRunning, PidFile

_PATIENCE = 15.0
"""Seconds: an engine that is started beside this one finds it in the database in that time, and goes."""


class RunDirectory:
    """Takes both, and puts back what somebody takes away: without its pid file an engine is seen by nobody."""

    def __init__(self, run_dir: Path, log: Sink) -> None:
        self._run_dir = run_dir
        self._log = log
        self._pid_file = PidFile(run_dir)
        self._receiver = LogReceiver(run_dir / "log", log)
        self._taken_at: float | None = None
        self._selector: selectors.BaseSelector

    def acquire(self) -> None:
        """Makes it this process' own.  Raises AlreadyRunning, or DaemonError when the pid file cannot be written."""
        self._pid_file.acquire()

    def open(self, selector: selectors.BaseSelector) -> None:
        """Opens the log socket.  Raises DaemonError when that is not possible."""
        self._receiver.open()
        self._selector = selector
        selector.register(self._receiver, selectors.EVENT_READ, self)

    def receive(self) -> None:
        """Takes the events that wait."""
        self._receiver.receive()

    def keep(self, now: float) -> str | None:
        """Looks whether all is in its place, and mends it.  Returns why this engine has to stop, if it has to."""
        try:
            if self._pid_file.restore():
                events.emit("run_dir.restored", run_dir=str(self._run_dir))
            self._taken_at = None
            self._reopen()
        except AlreadyRunning as error:
            return self._taken(error.pid, now)
        except (DaemonError, OSError) as error:
            events.emit("run_dir.unusable", run_dir=str(self._run_dir), error=str(error))
        return None

    def _reopen(self) -> None:
        if self._receiver.is_reachable():
            return
        old, self._receiver = self._receiver, LogReceiver(self._run_dir / "log", self._log)
        try:
            self._receiver.open()
        except DaemonError:
            self._receiver = old
            raise
        self._selector.unregister(old)
        old.close()
        self._selector.register(self._receiver, selectors.EVENT_READ, self)

    def _taken(self, other: int, now: float) -> str | None:
        if self._taken_at is None:
            self._taken_at = now
            events.emit("run_dir.taken", run_dir=str(self._run_dir), other=other)
        return f"another engine (pid {other}) has the run directory" if now - self._taken_at > _PATIENCE else None

    def close(self) -> None:
        """Closes the log socket."""
        self._receiver.close()

    def release(self) -> None:
        """Lets another engine have it."""
        self._pid_file.release()
