"""How many cores' worth of jobs the submit actor may claim for a system with slots.

A system that takes jobs ahead gets as many more as it started in the last moment: then the next short job starts when one ends,
without a look at the database between them, while long jobs, of which none starts for a while, are taken up one by one, by
priority.
"""

from __future__ import annotations

from collections import deque

from execution_engine.clock import Clock
from execution_engine.store.job_store import JobStore
from execution_engine.systems.execution_systems import ExecutionSystem

AHEAD = 0.25
"""Seconds of work that a system is given ahead."""
_LOOK_INTERVAL = 1.0


class Room:
    """The free slots of a system, and what may be claimed beyond them."""

    def __init__(self, lane: str, store: JobStore, clock: Clock) -> None:
        self._lane, self._store, self._clock = lane, store, clock
        self._started: deque[tuple[float, int]] = deque()
        self._alone = False
        self._look_at = clock.monotonic()
        self.taken = 0
        """cores in use when `free` was asked last"""

    def free(self, system: ExecutionSystem) -> int | None:
        """Cores that may be claimed now; None: any number.  Raises StoreError."""
        slots = system.slots()
        if slots is None:
            return None
        self.taken = self._store.taken_cores(self._lane, self._clock.now())
        return slots - self.taken + (self._ahead() if system.takes_ahead else 0)

    def started(self, cores: int) -> None:
        """A job was started just now."""
        self._started.append((self._clock.monotonic(), cores))

    def _ahead(self) -> int:
        """None while another engine serves the lane: each would start as many as there are slots."""
        now = self._clock.monotonic()
        while self._started and self._started[0][0] < now - AHEAD:
            self._started.popleft()
        if not self._started:
            return 0
        if now >= self._look_at:
            self._look_at = now + _LOOK_INTERVAL
            self._alone = sum(self._lane in engine.lanes for engine in self._store.engines.all()) <= 1
        return sum(cores for _, cores in self._started) if self._alone else 0
