"""The time.  Aware UTC for what is stored, monotonic seconds for deadlines; injected, so that a test can hold it still."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC, in whole milliseconds (what a BSON date can hold)."""

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines and intervals only."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return to_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()


def to_milliseconds(moment: datetime) -> datetime:
    """The same moment cut to whole milliseconds, so that a stored date compares equal to the one in memory."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def from_timestamp(seconds: float) -> datetime:
    """The aware UTC date of seconds since the epoch."""
    return to_milliseconds(datetime.fromtimestamp(seconds, UTC))
