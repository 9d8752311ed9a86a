"""Keeps an outage, or one fault that shows a thousand times, from flooding the log: one line, and later how often it was."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from execution_engine.clock import Clock
from execution_engine.events import Record

OUTAGE_EVENTS = frozenset({"outage.begun", "outage", "outage.ended"})

_REMIND_EVERY = 60.0
_FORGET_AFTER = 300.0
_BURST = 60.0
_MOST_BURSTS = 1000


@dataclass(slots=True)
class _Outage:
    since: float
    attempts: int
    told: float
    heard: float


class Outages:
    """Makes one story of what several processes report about the same outage (the same `what`).

    A process that is killed in an outage never reports its end; an outage of which nobody has spoken for five minutes is
    therefore taken as over.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outages: dict[str, _Outage] = {}

    def pass_on(self, record: Record) -> Record | None:
        """The record to be written, with `after` (seconds) and `attempts` where they are known; None: it was only counted."""
        what, now = str(record.get("what")), self._clock.monotonic()
        outage = self._outages.get(what)
        if outage is not None and now - outage.heard > _FORGET_AFTER:
            outage = None
        if record["event"] == "outage.ended":
            self._outages.pop(what, None)
            return _told(record, outage, now) if outage else None
        if outage is None:
            self._outages[what] = _Outage(since=now, attempts=1, told=now, heard=now)
            return {**record, "event": "outage.begun"}
        outage.attempts += 1
        outage.heard = now
        if now - outage.told < _REMIND_EVERY:
            return None
        outage.told = now
        return _told({**record, "event": "outage"}, outage, now)


def _told(record: Record, outage: _Outage, now: float) -> Record:
    """The account of what all processes reported takes the place of what one of them knows."""
    return {**record, "after": round(now - outage.since, 1), "attempts": outage.attempts}


@dataclass(slots=True)
class _Burst:
    record: Record
    since: float
    repeated: int = 0


class Bursts:
    """Lets the first of the events that say the same pass, and counts the others for a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bursts: dict[Hashable, _Burst] = {}

    def is_first(self, key: Hashable, record: Record) -> bool:
        """Whether the event is to be written; otherwise it has been counted."""
        burst = self._bursts.get(key)
        if burst is None:
            self._bursts[key] = _Burst(record, since=self._clock.monotonic())
            return True
        burst.repeated += 1
        burst.record = record
        return False

    def over(self, *, all_of_them: bool = False) -> list[Record]:
        """The latest event of each burst that has ended and had repetitions, with `repeated` and `repeated_for` (seconds)."""
        now = self._clock.monotonic()
        told = []
        while self._bursts:
            key, oldest = next(iter(self._bursts.items()))
            if not all_of_them and len(self._bursts) <= _MOST_BURSTS and now - oldest.since < _BURST:
                break
            del self._bursts[key]
            if oldest.repeated:
                facts = {"traceback": None, "repeated": oldest.repeated, "repeated_for": round(now - oldest.since, 1)}
                told.append({**oldest.record, **facts})
        return told
