"""The jobs of one request, which a keeper starts in their order as slots get free, and of which it tells a few at a time.

A keeper that knows the next jobs starts one in the moment in which another ends.  What gets no slot in a moment is given back:
while jobs are long, who comes next is for the engine to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from execution_engine.systems.local_keeper.kept_jobs import FULL, KeptJobs, Refusal
from execution_engine.systems.local_keeper.processes import Identity, uptime
from execution_engine.systems.local_keeper.records import TRANSIENT, Order

PATIENCE = 0.5
"""Seconds from the request until what was not started is given back."""
TELL_INTERVAL = 0.02
"""Seconds between two answers, while there is more to come."""


class Batch:
    """`slots`: how many cores the jobs of the keeper may use together.  `until`: when the jobs may be another actor's; nothing is
    started after that.  All moments are seconds since the machine's boot.
    """

    def __init__(self, orders: Iterable[Order], environment: dict[str, str], slots: int, until: float, now: float) -> None:
        self._orders = deque(orders)
        self._environment = environment
        self._slots = slots
        self._until = until
        self._give_back_at = min(until, now + PATIENCE)
        self._untold: list[Identity | Refusal] = []
        self._tell_at = now + TELL_INTERVAL

    @property
    def over(self) -> bool:
        """Whether nothing is left to start, nor to tell."""
        return not self._orders and not self._untold

    @property
    def waits(self) -> bool:
        """Whether jobs are left to start: those of a later request come after them."""
        return bool(self._orders)

    def due(self) -> float:
        """When `proceed` must be called, whatever else happens."""
        return min(self._give_back_at, self._tell_at) if self._untold else self._give_back_at

    def proceed(self, jobs: KeptJobs, now: float, *, its_turn: bool) -> list[Identity | Refusal]:
        """Starts what can be, in its turn; what became of some jobs, in the order of the request, when it is time to tell."""
        if its_turn:
            self._start_some(jobs)
        if now >= self._give_back_at:
            self._untold += [FULL] * len(self._orders)
            self._orders.clear()
        if self._orders and now < self._tell_at:
            return []
        told, self._untold, self._tell_at = self._untold, [], now + TELL_INTERVAL
        return told

    def _start_some(self, jobs: KeptJobs) -> None:
        while self._orders and uptime() < self._until and (outcome := self._start(jobs, self._orders[0])) is not None:
            self._orders.popleft()
            self._untold.append(outcome)
            jobs.reap()  # the first of many may have ended before the last is started

    def _start(self, jobs: KeptJobs, order: Order) -> Identity | Refusal | None:
        try:
            return jobs.run(order, self._environment, self._slots)
        except Exception as error:  # noqa: BLE001 - a job that is odd in a new way must not cost the others their keeper
            transient = isinstance(error, OSError) and error.errno in TRANSIENT
            return Refusal(f"{order.directory} cannot be looked at: {error!r}", transient)
