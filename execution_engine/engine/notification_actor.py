"""Tells the owners of jobs that ended."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

from execution_engine import events
from execution_engine.engine.actor import Actor, Workplace
from execution_engine.jobs.job import Job
from execution_engine.notification.notifier import Notifier, Outcome
from execution_engine.store.job_store import BrokenJob, Change, Work

_AT_A_TIME = 8


class NotificationActor(Actor):
    """Several deliveries at a time, so that one server that hangs does not hold up the messages to others."""

    work = Work.NOTIFICATION

    def __init__(self, workplace: Workplace) -> None:
        super().__init__(workplace)
        self._notifier = Notifier(self.site.config.notification)
        self._pool = ThreadPoolExecutor(max_workers=_AT_A_TIME)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def turn(self) -> int:
        claims = self.claim(limit=_AT_A_TIME * 4)
        pending: dict[Future[Outcome], Job] = {}
        for claimed in claims:
            if isinstance(claimed.job, BrokenJob):
                self.apply([Change(claimed.job, claimed.job.status)])
            elif claimed.job.lease.crashes >= self.settings.crashes:
                self._give_up(claimed.job)
            else:
                pending[self._pool.submit(self._notifier.deliver, claimed.job, self.clock.now())] = claimed.job
        while pending:
            self.beat()
            if self._stopping:
                self._put_back(pending)
            done, _ = wait(pending, timeout=1.0, return_when="FIRST_COMPLETED")
            self.apply([self._delivered(pending.pop(future), future.result()) for future in done])
        if claims:
            self.tell(did={"told": len(claims)})
        return len(claims)

    def _put_back(self, pending: dict[Future[Outcome], Job]) -> None:
        """What has not been begun is left for the next actor."""
        unbegun = [future for future in pending if future.cancel()]
        self.apply([Change(job, job.status, due_at=self.clock.now()) for job in map(pending.pop, unbegun)])

    def _delivered(self, job: Job, outcome: Outcome) -> Change:
        for target, delivery in outcome.notified.items():
            before = job.notified.get(target)
            if delivery == before:
                continue
            name = "job.notified" if delivery.at else "notification.failed"
            events.emit(name, job=job.text_id, label=job.label, target=target, attempts=delivery.attempts, error=delivery.error)
        fields: dict[str, object] = {"notified": {name: delivery.model_dump() for name, delivery in outcome.notified.items()}}
        if outcome.done and any(delivery.at for delivery in outcome.notified.values()):
            fields["times.notified"] = self.clock.now()
        return Change(job, job.status, fields=fields, due_at=outcome.retry_at)

    def _give_up(self, job: Job) -> None:
        events.emit(
            "notification.failed",
            job=job.text_id,
            label=job.label,
            target="all",
            attempts=job.lease.crashes,
            error=job.lease.crash,
        )
        self.apply([Change(job, job.status)])
