"""A limit on the time of a call into a C library, which nothing in Python can interrupt."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from execution_engine import events

_LOOK = 0.5


class Deadline:
    """Ends the process when a call made within `with deadline:` has not returned after so many seconds.

    The exit code, EX_TEMPFAIL, tells the engine that the system is out of reach and that no job is to blame.
    """

    def __init__(self, what: str, seconds: float) -> None:
        """`what`: who does not answer, for the log."""
        self._what = what
        self._seconds = seconds
        self._until: float | None = None
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="deadline", daemon=True)
            self._watcher.start()
        self._until = time.monotonic() + self._seconds

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._until = None

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            until = self._until
            if until is not None and time.monotonic() > until:
                events.emit("system.hung", system=self._what, seconds=self._seconds)
                os._exit(os.EX_TEMPFAIL)
