"""How many cores' worth of jobs the submit actor may claim for a system with slots.

A system that takes jobs ahead gets as many more as it started in the last moment beyond its slots: then the next short job starts
when one ends, without a look at the database between them, while long jobs, of which no more start than there are slots, are
taken up one by one, by priority.
"""

from __future__ import annotations

from collections import deque

from execution_engine.clock import Clock
from execution_engine.store.job_store import Cores, JobStore
from execution_engine.systems.execution_systems import ExecutionSystem

AHEAD = 0.25
"""Seconds of work that a system is given ahead."""
_TRUSTED = 1.0
"""Seconds for which it is believed that nobody else has jobs on the lane."""


class Room:
    """The free slots of a system, and what may be claimed beyond them.  `engine`: whose this is."""

    def __init__(self, lane: str, engine: str, store: JobStore, clock: Clock) -> None:
        self._lane, self._engine, self._store, self._clock = lane, engine, store, clock
        self._started: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._alone_until = float("-inf")

    def look(self, system: ExecutionSystem) -> Cores | None:
        """Cores that may be claimed now; None: any number.  Raises StoreError and ExecutionSystemError."""
        slots = system.slots()
        if slots is None:
            return None
        free = slots - self._store.taken_cores(self._lane, self._clock.now())  # below 0 while the ends of jobs are not stored yet
        ahead = self._ahead(system, slots) if system.takes_ahead else []
        return Cores(free, sum(ahead) - slots, max(ahead), slots) if ahead else Cores(free, slots=slots)

    def started(self, cores: int) -> None:
        """A job was started just now."""
        self._started.append((self._clock.monotonic(), cores))

    def _ahead(self, system: ExecutionSystem, slots: int) -> list[int]:
        """The cores of the jobs that started in the last moment, if they are more than the slots.

        None while the system counts less than all there is: a job of an earlier keeper, or another engine's.
        """
        now = self._clock.monotonic()
        while self._started and self._started[0][0] < now - AHEAD:
            self._started.popleft()
        cores = [cores for _, cores in self._started]
        if sum(cores) <= slots:
            return []
        if now >= self._alone_until and self._alone(system):
            self._alone_until = now + _TRUSTED
        return cores if now < self._alone_until else []

    def _alone(self, system: ExecutionSystem) -> bool:
        """Whether this engine, and no other one, serves the lane, and the system has all jobs that run there."""
        engines = {engine.id for engine in self._store.engines.all() if self._lane in engine.lanes}
        return engines == {self._engine} and system.keeps_all(self._store.on_system(self._lane))
