"""Tells the owners of jobs that ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from execution_engine import events
from execution_engine.engine.actor import Actor, Workplace
from execution_engine.jobs.job import Delivery, Job
from execution_engine.notification.deliveries import Deliveries
from execution_engine.notification.notifier import Errand, Notifier, Result
from execution_engine.store.job_store import BrokenJob, Change, Work

_IN_HAND, _LEAST_ROOM = 64, 16
_LAST_WORD = 1.0
"""Seconds that deliveries under way get when the engine stops; what is not done then is begun anew by the next actor."""


@dataclass(slots=True)
class _Told:
    """A job in hand: what its targets' records are by now, and how many of them are still to come."""

    job: Job
    open: int
    notified: dict[str, Delivery]
    waits: list[float] = field(default_factory=list)
    """seconds until the next try of the targets that failed"""


class NotificationActor(Actor):
    """Stores each result as it comes, and takes up more jobs meanwhile: no server holds up the messages to others."""

    work = Work.NOTIFICATION

    def __init__(self, workplace: Workplace) -> None:
        super().__init__(workplace)
        settings = self.site.config.notification
        self._notifier = Notifier(settings, self.clock)
        self._deliveries = Deliveries(self._notifier, self.clock, settings.timeout)
        self._in_hand: dict[str, _Told] = {}
        self._take_up_until = self.clock.monotonic() + self.settings.actor_lifetime
        self._next_look = 0.0

    def close(self) -> None:
        self._deliveries.close()

    def turn(self) -> int:
        had = self._take_up()
        while self._in_hand and not self._stopping:
            self._store(self._deliveries.results(self.settings.poll_interval.max))
            self.beat()
            if not self._stopping:
                had += self._take_up()
        if self._stopping:
            self._put_back()
        if had:
            self.tell(did={"told": had})
        return had

    def _take_up(self) -> int:
        """Claims jobs while there is room in hand, now and then; returns how many."""
        now, room = self.clock.monotonic(), _IN_HAND - len(self._in_hand)
        if now < self._next_look or room < _LEAST_ROOM or (self._in_hand and now > self._take_up_until):
            return 0
        claims = self.claim(limit=room)
        self._next_look = now + (0.0 if len(claims) == room else self.settings.poll_interval.max)
        self.apply([change for claimed in claims if (change := self._taken(claimed.job)) is not None])
        return len(claims)

    def _taken(self, job: Job | BrokenJob) -> Change | None:
        """Begins to tell a job's targets; the change that gives the job back where there is nothing to do."""
        if isinstance(job, BrokenJob):
            return Change(job, job.status)
        if job.lease.crashes >= self.settings.crashes:
            self._tell_of("notification.given_up", job, "all", Delivery(attempts=job.lease.crashes, error=job.lease.crash))
            return Change(job, job.status)
        errands = self._notifier.errands(job)
        if not errands:
            return Change(job, job.status)
        self._in_hand[job.text_id] = _Told(job, len(errands), dict(job.notified))
        for errand in errands:
            self._deliveries.add(errand)
        return None

    def _store(self, results: list[tuple[Errand, Result]]) -> None:
        """Stores what came, each job's part with one change."""
        ours = [(errand, result) for errand, result in results if errand.job.text_id in self._in_hand]
        touched = dict.fromkeys(errand.job.text_id for errand, _ in ours)
        for errand, result in ours:
            self._note(errand, result)
        lost = self.apply([self._change(self._in_hand[job_id]) for job_id in touched])
        for job_id in touched:
            if job_id in lost or not self._in_hand[job_id].open:
                del self._in_hand[job_id]

    def _note(self, errand: Errand, result: Result) -> None:
        told, delivery = self._in_hand[errand.job.text_id], result.delivery
        told.open -= 1
        told.notified[errand.key] = delivery
        if result.again_in is not None:
            told.waits.append(result.again_in)
        if delivery.at is not None:
            self._tell_of("job.notified", errand.job, errand.key, delivery)
        elif delivery.given_up:
            self._tell_of("notification.given_up", errand.job, errand.key, delivery)
        elif delivery.attempts > errand.before.attempts:
            self._tell_of("notification.failed", errand.job, errand.key, delivery)

    def _change(self, told: _Told) -> Change:
        fields: dict[str, Any] = {"notified": {target: delivery.model_dump() for target, delivery in told.notified.items()}}
        if told.open:
            return Change(told.job, told.job.status, fields=fields, keep_lease=True)
        if told.waits:
            retry_at = self.clock.now() + timedelta(seconds=min(told.waits))
            return Change(told.job, told.job.status, fields=fields, due_at=retry_at)
        if moments := [delivery.at for delivery in told.notified.values() if delivery.at is not None]:
            fields["times.notified"] = max(moments)
        return Change(told.job, told.job.status, fields=fields)

    def _put_back(self) -> None:
        """The engine stops: what is not done within a moment is left for the next actor."""
        self._store(self._deliveries.withdraw(_LAST_WORD))
        self.apply([Change(told.job, told.job.status, due_at=self.clock.now()) for told in self._in_hand.values()])
        self._in_hand.clear()

    @staticmethod
    def _tell_of(event: str, job: Job, target: str, delivery: Delivery) -> None:
        events.emit(event, job=job.text_id, label=job.label, target=target, attempts=delivery.attempts, error=delivery.error)
