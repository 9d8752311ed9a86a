"""Systems that work and take no jobs now: submissions to each rest, for a time that grows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import PollInterval


@dataclass(slots=True)
class _Rest:
    since: datetime
    why: str
    closed: bool
    delay: float
    again_at: float
    """monotonic"""
    tries: int = 1


class Rests:
    """The systems that are full, or closed to everybody or to this account, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.delays = PollInterval(min=1.0, max=60.0)
        """before it is tried again: the first, and the longest"""
        self._current: dict[str, _Rest] = {}
        self._room_at: dict[str, float] = {}

    def refused(self, name: str, why: str, *, closed: bool, taken: int, since: float) -> None:
        """It took so many jobs, then no more, in a try that began then (monotonic)."""
        now, known = self._clock.monotonic(), self._current.get(name)
        if known is None or known.closed is not closed:
            self._current[name] = _Rest(self._clock.now(), why, closed, self.delays.min, now + self.delays.min)
            event = "system.closed" if closed else "system.full"
            events.emit(event, system=name, why=why, longest=self.delays.max)
        else:
            known.why = why
            known.tries += 1
            if now >= known.again_at:
                known.delay = self.delays.min if taken else min(known.delay * 2, self.delays.max)
                known.again_at = now + known.delay
        if since < self._room_at.get(name, since):
            self.room(name)

    def room(self, name: str) -> None:
        """A job there has ended: one that is full may take another."""
        self._room_at[name] = self._clock.monotonic()
        if (known := self._current.get(name)) is not None and not known.closed:
            known.again_at = self._clock.monotonic()

    def over(self, name: str) -> None:
        """It took all jobs that there were for it."""
        if (known := self._current.pop(name, None)) is not None:
            after = round((self._clock.now() - known.since).total_seconds(), 1)
            events.emit("system.open", system=name, after=after)

    def try_again(self) -> None:
        """The configuration is new: what was refused may be taken now."""
        for known in self._current.values():
            known.delay, known.again_at = self.delays.min, self._clock.monotonic()

    def waits(self, name: str) -> bool:
        """Whether it is too early to try this system again."""
        known = self._current.get(name)
        return known is not None and self._clock.monotonic() < known.again_at

    def describe(self, name: str) -> dict[str, Any] | None:
        """For `execd status` and `execd explain`; None if it takes jobs."""
        known = self._current.get(name)
        if known is None:
            return None
        state = "closed" if known.closed else "full"
        return {"since": known.since.isoformat(), "why": known.why, "state": state, "tries": known.tries}
