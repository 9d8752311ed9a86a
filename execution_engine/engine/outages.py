"""What does not answer now: the database, an execution system, the jobs directory.  Each is tried again with back-off."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import PollInterval


@dataclass(slots=True)
class Outage:
    """One of them."""

    since: datetime
    error: str
    delay: float
    again_at: float
    """monotonic"""
    count: int = 1
    again_told: bool = False
    """that it may be tried again was told"""


class Outages:
    """Keeps account of what is out of reach, and tells of the beginning and the end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.delays = PollInterval(min=1.0, max=60.0)
        """before what does not answer is tried again: the first, and the longest"""
        self._current: dict[str, Outage] = {}
        self._last: dict[str, dict[str, str]] = {}
        self._ended: dict[str, float] = {}

    def report(self, what: str, error: str, since: float | None = None) -> None:
        """`what` did not answer just now.  `since`: when the try began, monotonic; one in an outage that is over is old news."""
        now = self._clock.monotonic()
        if since is not None and since < self._ended.get(what, since):
            return
        self._last[what] = {"error": error, "at": self._clock.now().isoformat()}
        known = self._current.get(what)
        if known is None:
            self._current[what] = Outage(self._clock.now(), error, self.delays.min, now + self.delays.min)
            events.emit("outage.begun", what=what, error=error)
            return
        known.count += 1
        known.error = error
        if now >= known.again_at:
            known.delay = min(known.delay * 2, self.delays.max)
            known.again_at = now + known.delay
            known.again_told = False
        events.emit("outage", what=what, error=error)

    def over(self, what: str, at: float | None = None) -> None:
        """`what` answered, just now or `at` that moment (monotonic)."""
        if (known := self._current.pop(what, None)) is not None:
            self._ended[what] = self._clock.monotonic() if at is None else at
            seconds = round((self._clock.now() - known.since).total_seconds(), 1)
            events.emit("outage.ended", what=what, after=seconds, attempts=known.count)

    def reconsider(self, there: Collection[str]) -> None:
        """The configuration is new: what is not there any more is no outage, and all else is tried at once."""
        for what in [what for what in self._current if what not in there]:
            del self._current[what]
            events.emit("outage.dropped", what=what)
        for known in self._current.values():
            known.delay, known.again_at, known.again_told = self.delays.min, self._clock.monotonic(), False

    def waits(self, what: str) -> bool:
        """Whether it is too early to try `what` again."""
        known = self._current.get(what)
        return known is not None and self._clock.monotonic() < known.again_at

    def any_again(self) -> bool:
        """Whether the wait for any of them has ended since the last time that this was asked."""
        now = self._clock.monotonic()
        again = [known for known in self._current.values() if not known.again_told and now >= known.again_at]
        for known in again:
            known.again_told = True
        return bool(again)

    def error(self, what: str) -> str | None:
        """What went wrong last, while the outage lasts."""
        known = self._current.get(what)
        return known.error if known else None

    def last(self, what: str) -> dict[str, str] | None:
        """The last error of `what` and when it was, also when the outage is over."""
        return self._last.get(what)

    def report_all(self) -> list[dict[str, Any]]:
        """For `execd status`."""
        return [
            {"what": what, "since": outage.since.isoformat(), "error": outage.error, "count": outage.count}
            for what, outage in sorted(self._current.items())
        ]
