"""Keeps the journal: stores what the engine did by itself, a batch at a time, and removes what is too old."""

from __future__ import annotations

from datetime import timedelta

from execution_engine.clock import Clock, from_timestamp
from execution_engine.events import Record
from execution_engine.store.journal import Entry, Journal

_CLEANING_INTERVAL = 3600.0
_NEXT_LOT = 1.0
_MOST_REMOVED = 100
"""Entries at a time, each of up to a thousand jobs: the monitor's loop goes on in between."""
_NOT_FACTS = frozenset({"id", "event", "at", "engine"})


class Chronicle:
    """The events that the master handed over and that are still to be stored; it keeps them until they are."""

    def __init__(self, journal: Journal, engine: str, clock: Clock) -> None:
        self._journal = journal
        self._engine = engine
        self._clock = clock
        self.keep = 0.0
        """seconds after which an entry is removed"""
        self._waiting: list[Entry] = []
        self._next_cleaning = clock.monotonic()

    def add(self, record: Record) -> None:
        """Takes an event that the journal is to hold, as the master's relay made it: the facts fit into every database."""
        facts = {name: value for name, value in record.items() if name not in _NOT_FACTS}
        jobs = facts.get("jobs", facts.get("job", []))
        self._waiting.append(
            Entry(
                at=from_timestamp(record["at"]),
                event=record["event"],
                engine=str(record.get("engine") or self._engine),
                jobs=tuple(jobs) if isinstance(jobs, list) else (str(jobs),),
                facts=facts,
                id=record["id"],
            )
        )

    def turn(self) -> int:
        """Stores what waits, and now and then removes what is too old; returns how many entries were stored.

        Raises StoreError; what was not stored waits.
        """
        if self._clock.monotonic() >= self._next_cleaning:
            self._clean()
        if not self._waiting:
            return 0
        self._journal.append(self._waiting)
        stored, self._waiting = len(self._waiting), []
        return stored

    def _clean(self) -> None:
        """Removes a lot of what is too old.  Where that fails, what waits to be stored does not wait for it the next time."""
        now = self._clock.monotonic()
        self._next_cleaning = now + _CLEANING_INTERVAL
        before = self._clock.now() - timedelta(seconds=self.keep)
        if self._journal.expire(before, _MOST_REMOVED) == _MOST_REMOVED:
            self._next_cleaning = now + _NEXT_LOT
