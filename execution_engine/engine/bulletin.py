"""What the engine tells of itself in its run directory, for `execd status` and `execd reload`."""

from __future__ import annotations

import os
from typing import Any

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import Config
from execution_engine.engine import state

_SHORTEST = 1.0
_LONGEST = 10.0
STALE = 15.0
"""Seconds: a state that is older was written by a monitor that hangs or cannot write any more."""


class Bulletin:
    """Writes `state.json`: soon after something changed, and now and then as a sign of life."""

    def __init__(self, config: Config, engine: str, restarts: int, clock: Clock) -> None:
        self._run_dir = config.run_dir
        self._clock = clock
        self._head: dict[str, Any] = {
            "engine": engine,
            "config": str(config.file),
            "monitor": {"pid": os.getpid(), "started": clock.now().isoformat(), "restarts": restarts},
            "reload": None,
        }
        self._written: dict[str, Any] | None = None
        self._written_at = self._looked_at = clock.monotonic() - _LONGEST

    def due(self) -> bool:
        """Whether it is worth while to publish again."""
        return self._clock.monotonic() - self._looked_at >= _SHORTEST

    def reloaded(self, problems: list[str]) -> None:
        """The configuration was read anew; `problems`: why it was refused."""
        self._head["reload"] = {"at": self._clock.now().isoformat(timespec="microseconds"), "problems": problems}

    def publish(self, **facts: Any) -> None:
        """Writes the file if something is new in it, or it has become old."""
        now = self._looked_at = self._clock.monotonic()
        content = {**self._head, **facts}
        if content == self._written and now - self._written_at < _LONGEST:
            return
        try:
            state.write(self._run_dir, state.STATE, {**content, "at": self._clock.now().isoformat()})
        except OSError as error:
            events.emit("state.unwritable", directory=str(self._run_dir), error=str(error))
        self._written, self._written_at = content, now
