"""The jobs of a claim that must not be worked on, and what becomes of them instead."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from execution_engine import events
from execution_engine.engine.actor import ended
from execution_engine.engine.starts import Unclear, never_starts
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import BrokenJob, Change, Claimed

KEEP_FROM_STARTING = ("kill", "hold")
_MAY_WAIT_SOMEWHERE = frozenset({Status.TO_BE_SUBMITTED, Status.SUBMITTING})
_LOOK_AGAIN = timedelta(seconds=15)
"""Until a job is looked at again of which it is not known whether its command has started."""


class Vetting:
    """Looks at claimed jobs before an actor starts with them."""

    def __init__(self, notifier: Notifier, crashes: int) -> None:
        self._notifier = notifier
        self._crashes = crashes

    def sort(self, claims: Iterable[Claimed], now: datetime) -> tuple[list[Claimed], list[Change]]:
        """The jobs to work on, and the changes for all others: broken documents, jobs that kill their actors, jobs
        that somebody has asked to kill or to hold.
        """
        good: list[Claimed] = []
        changes: list[Change] = []
        for claimed in claims:
            try:
                change = self._verdict(claimed, now)
            except Unclear:
                change = Change(claimed.job, claimed.job.status, due_at=now + _LOOK_AGAIN)
            if change is None:
                good.append(claimed)
            else:
                changes.append(change)
        return good, changes

    def _verdict(self, claimed: Claimed, now: datetime) -> Change | None:
        """Raises Unclear."""
        job = claimed.job
        if isinstance(job, BrokenJob):
            return self.broken(job, now)
        is_crashing = job.lease.crashes >= self._crashes
        is_to_stay = is_crashing or job.request in KEEP_FROM_STARTING
        if is_to_stay and claimed.was in _MAY_WAIT_SOMEWHERE and not never_starts(job):
            return self._crashed(job, claimed.was, now, "; its command has started all the same") if is_crashing else None
        if is_crashing:
            return self._crashed(job, claimed.was, now)
        if job.request == "kill":
            return self.end(job, Status.KILLED, "killed", f"killed on request while it was {claimed.was}", now)
        if job.request == "hold":
            return self._held(job, claimed.was, now)
        return None

    def _crashed(self, job: Job, was: Status, now: datetime, more: str = "") -> Change:
        message = f"its {was} actor died {job.lease.crashes} times with this job, the last time: {job.lease.crash}{more}"
        return self.end(job, Status.ERROR, "actor crashed", message, now)

    def _held(self, job: Job, was: Status, now: datetime) -> Change:
        why = f"hold on request while it was {was}"
        events.emit("job.request", job=job.text_id, label=job.label, what=job.request, why=why)
        requested = {"what": job.request, "at": now, "why": why, "sent": False}
        return Change(job, Status.HOLD, why=why, fields={"requested": requested}, answered=job.request)

    def broken(self, job: BrokenJob, now: datetime) -> Change:
        """The change that ends a document that does not describe a job.  Nobody is told: it does not say whom."""
        message = "; ".join(job.problems)
        return ended(job, Status.ERROR, "invalid job", message, now=now, notify=False, fields={"times": {"ended": now}})

    def end(self, job: Job, status: Status, kind: str, message: str, now: datetime) -> Change:
        """The change that ends a job here, with its owner's notification if there is to be one."""
        return ended(job, status, kind, message, now=now, notify=bool(self._notifier.targets_of(job)))
