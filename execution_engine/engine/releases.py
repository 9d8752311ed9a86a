"""Gives back the jobs of actors that died: of this engine, and of the one that ran here before.  One way for all of them."""

from __future__ import annotations

from datetime import timedelta

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.store.job_store import JobStore

_RETRY_AFTER_CRASH = timedelta(seconds=0.5)


class Releases:
    """The owners of leases who are known to be dead, until the database has been told."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._owners: list[tuple[str, str | None]] = []

    def add(self, owner: str, crash: str | None = None) -> None:
        """`owner` (or, with a `*` at its end, all that begin so) is dead; `crash`: how, if its jobs may be to blame."""
        self._owners.append((owner, crash))

    def __bool__(self) -> bool:
        return bool(self._owners)

    def carry_out(self) -> None:
        """Frees their jobs.  Raises StoreUnavailable; what was not done stays to be done."""
        while self._owners:
            owner, crash = self._owners[0]
            now = self._clock.now()
            retry_at = now + _RETRY_AFTER_CRASH if crash else None
            jobs = self._store.release(owner, now, crash=crash, retry_at=retry_at)
            self._owners.pop(0)
            if jobs:
                some = [str(job.id) for job in jobs[:100]]
                events.emit("jobs.released", owner=owner, jobs=some, count=len(jobs), why=crash)
