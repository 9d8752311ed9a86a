"""When to look: at the database for due jobs, and at each system for the status of its jobs."""

from __future__ import annotations

from execution_engine.clock import Clock
from execution_engine.config import PollInterval

_GROWTH = 1.5


class Pace:
    """An interval that is short while there is news and grows while there is none."""

    def __init__(self, clock: Clock, interval: PollInterval) -> None:
        self._clock = clock
        self.interval = interval
        self._current = interval.min
        self._next = clock.monotonic()

    def due(self) -> bool:
        """Whether it is time."""
        return self._clock.monotonic() >= self._next

    def remaining(self) -> float:
        """Seconds until it is time."""
        return max(0.0, self._next - self._clock.monotonic())

    def looked(self, *, news: bool) -> None:
        """Somebody has looked just now."""
        self._current = self.interval.min if news else min(self._current * _GROWTH, self.interval.max)
        self._next = self._clock.monotonic() + self._current

    def at_once(self) -> None:
        """There is news: look now."""
        self._next = self._clock.monotonic()

    def wait(self, seconds: float) -> None:
        """Do not look for so long."""
        self._next = self._clock.monotonic() + seconds
