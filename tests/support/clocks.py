"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class HeldClock:
    """The time of a test."""

    def __init__(self, start: datetime = datetime(2026, 11, 20, 16, 4, 5, tzinfo=UTC)) -> None:
        self._now = start
        self._seconds = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def move(self, seconds: float) -> None:
        """Lets time pass."""
        self._seconds += seconds
        self._now += timedelta(seconds=seconds)
