"""Gives back the jobs of actors that died: of this engine, of the one that ran here before, of one whose place another takes.
One way for all of them.
"""

from __future__ import annotations

from datetime import timedelta

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.store.job_store import JobStore

_MOST_TOLD = 1000
_ALL_ACTORS = "/*"


class Releases:
    """The owners of leases who are known to be dead, until the database has been told."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._owners: list[tuple[str, str | None, float]] = []

    def add(self, owner: str, crash: str | None = None, rest: float = 0.0) -> None:
        """An actor is dead; `crash`: how it died, if its jobs may be to blame.  `rest`: seconds before they are tried again."""
        self._owners.append((owner, crash, rest))

    def add_engine(self, engine: str) -> None:
        """An engine is dead, with all of its actors."""
        self._owners.append((engine + _ALL_ACTORS, None, 0.0))

    def __bool__(self) -> bool:
        return bool(self._owners)

    def carry_out(self) -> None:
        """Frees their jobs, and takes engines out of the registry.  Raises StoreError; what was not done stays to be done."""
        while self._owners:
            owner, crash, rest = self._owners[0]
            now = self._clock.now()
            jobs = self._store.release(owner, now, crash=crash, retry_at=now + timedelta(seconds=rest) if rest else None)
            is_engine = owner.endswith(_ALL_ACTORS)
            if is_engine:
                self._store.engines.sign_out(owner.removesuffix(_ALL_ACTORS))
            self._owners.pop(0)
            if jobs:
                event = "jobs.recovered" if is_engine else "jobs.released"
                some = [str(job.id) for job in jobs[:_MOST_TOLD]]
                events.emit(event, owner=owner, jobs=some, count=len(jobs), why=crash)
