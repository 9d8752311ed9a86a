"""What a job store must do, without a database: each job a few values in memory.  Tests compare the real ones with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from execution_engine.jobs.status import FINAL, ON_SYSTEM, RETRIES, Status
from execution_engine.store.job_store import REQUESTABLE, Change, Query, Work

_TAKES = {
    Work.BUILDING: (Status.TO_BE_BUILT, Status.BUILDING),
    Work.SUBMIT: (Status.TO_BE_SUBMITTED, Status.SUBMITTING),
}
BEGUN = (Status.BUILDING, Status.SUBMITTING)


@dataclass
class ModelJob:
    """A job.  `history` begins with the status that the app gave it."""

    status: Status
    priority: int = 0
    not_before: datetime | None = None
    due_at: datetime | None = None
    owner: str | None = None
    until: datetime | None = None
    token: int = 0
    crashes: int = 0
    request: str | None = None
    lane: str | None = None
    native: str | None = None
    """the native id"""
    attempt: int = 1
    history: list[str] = field(default_factory=list)

    def is_due(self, query: Query, now: datetime) -> bool:
        """Whether a claim may take it."""
        if query.work is Work.REQUEST:
            free = self.until is None or self.until <= now
            lane = self.lane if self.native and self.status not in FINAL else None
            return free and self.request is not None and self.status in REQUESTABLE and lane == query.lane
        if query.work is Work.NOTIFICATION:
            return self.status in FINAL and self.due_at is not None and self.due_at <= now
        waiting, begun = _TAKES[query.work]
        if self.is_early(now) or (query.work is Work.SUBMIT and self.lane != query.lane):
            return False
        if self.due_at is None:
            return self.status is waiting
        return self.status in (waiting, begun) and self.due_at <= now

    def is_early(self, now: datetime) -> bool:
        """Whether its app wants it later, and it has not been begun."""
        return self.status is Status.TO_BE_BUILT and self.not_before is not None and self.not_before > now

    def rank(self) -> tuple[bool, int]:
        """The higher, the sooner it is claimed; of the same rank, the older."""
        return self.status in BEGUN, self.priority

    def take(self, query: Query | None, owner: str, until: datetime) -> None:
        """The lease of a claim and, for building and submit, the transition."""
        if query is not None and query.work in _TAKES and self.status is _TAKES[query.work][0]:
            self.become(_TAKES[query.work][1])
        self.token += 1
        self.owner, self.until, self.due_at = owner, until, until

    def become(self, status: Status) -> None:
        self.status = status
        self.history.append(str(status))

    def free(self, due_at: datetime | None) -> None:
        self.owner, self.until, self.due_at = None, None, due_at

    def change(self, change: Change) -> bool:
        """Makes the change if its condition holds; whether it does."""
        lease = change.job.lease
        if (self.status, self.token, self.owner) != (change.job.status, lease.token, lease.owner):
            return False
        if change.status is not self.status:
            self.become(change.status)
        place = change.fields.get("execution", {"lane": self.lane, "job_no": self.native})
        self.lane, self.native = place.get("lane"), change.fields.get("execution.job_no", place.get("job_no"))
        self.attempt = change.fields.get("attempt", self.attempt)
        self.request = None if self.request == change.answered else self.request
        self.crashes = 0 if change.crash is None else lease.crashes + 1
        self.free(change.due_at)
        return True

    def released(self, crash: str | None, retry_at: datetime) -> None:
        """What becomes of it when its holder is gone."""
        self.crashes += crash is not None
        self.free(None if self.status in ON_SYSTEM or self.status is Status.INIT else retry_at)

    def ask(self, what: str) -> bool:
        """Whether it has the request now."""
        if self.status in (RETRIES if what == "retry" else set(Status) - FINAL):
            self.request = what
            return True
        return False


class Model:
    """All jobs, by id."""

    def __init__(self) -> None:
        self.jobs: dict[Any, ModelJob] = {}

    def due(self, query: Query, now: datetime) -> set[Any]:
        return {job_id for job_id, job in self.jobs.items() if job.is_due(query, now)}

    def held_by(self, owner: str) -> list[ModelJob]:
        """The jobs with a lease of this owner, or of all whose names begin so (`…*`)."""
        names = {job.owner for job in self.jobs.values() if job.owner is not None}
        dead = {name for name in names if name == owner or (owner.endswith("*") and name.startswith(owner[:-1]))}
        return [job for job in self.jobs.values() if job.owner in dead]

    def check_claim(self, query: Query, taken: Collection[Any], limit: int, now: datetime) -> None:
        """Fails unless a claim may take just these: due, no more than asked for, the most urgent, one with a crash alone."""
        due = self.due(query, now)
        assert set(taken) <= due, "only jobs that are due"
        assert len(set(taken)) == len(taken) <= limit
        chosen, left = self._of(taken), self._of(due - set(taken))
        assert bool(chosen) == bool(due), "nothing due is passed over"
        if any(job.crashes for job in chosen):
            assert len(chosen) == 1, "a job with a crash behind it comes alone"
        else:
            assert len(chosen) == limit or not left or any(job.crashes for job in left), "as many as there are"
            left = [job for job in left if not job.crashes]
        if chosen and left:
            assert min(job.rank() for job in chosen) >= max(job.rank() for job in left), "the most urgent"

    def _of(self, ids: Iterable[Any]) -> list[ModelJob]:
        return [self.jobs[job_id] for job_id in ids]
