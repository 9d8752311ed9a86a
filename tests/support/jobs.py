"""Jobs in a store, brought to where a test needs them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from execution_engine.clock import SystemClock
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change, Claimed, JobStore, Query, Work

BUILDING, NOTIFICATION, REQUEST = Query(Work.BUILDING), Query(Work.NOTIFICATION), Query(Work.REQUEST)
SUBMIT = Query(Work.SUBMIT, "here")
CLOCK = SystemClock()


def now() -> datetime:
    return CLOCK.now()


def later(seconds: float = 60) -> datetime:
    """A moment in the future; with a negative number, in the past."""
    return now() + timedelta(seconds=seconds)


def a_job(**fields: Any) -> dict[str, Any]:
    return {"status": "to be built", "command": ["true"], **fields}


def claim(store: JobStore, query: Query = BUILDING, owner: str = "boot/1", limit: int = 100, **how: Any) -> list[Claimed]:
    return store.claim(query, owner, limit, now(), how.pop("until", later()), **how)


def claim_job(store: JobStore, query: Query = BUILDING, **how: Any) -> Job:
    """The one job that is due."""
    (claimed,) = claim(store, query, **how)
    assert isinstance(claimed.job, Job)
    return claimed.job


def apply(store: JobStore, job: Any, status: Status, by: str = "boot/1", **change: Any) -> bool:
    """Whether the change took place."""
    return not store.apply([Change(job, status, **change)], by, now())


def built(store: JobStore, lane: str = "here", **fields: Any) -> Any:
    """Inserts a job and builds it; returns its id."""
    (job_id,) = store.insert([a_job(**fields)])
    job = next(claimed.job for claimed in claim(store) if claimed.job.id == job_id)
    assert apply(store, job, Status.TO_BE_SUBMITTED, fields={"execution": {"system": "here", "lane": lane}})
    return job_id


def submitted(store: JobStore, status: Status = Status.RUNNING, **fields: Any) -> Job:
    """Inserts a job and brings it to the system."""
    job_id = built(store, **fields)
    assert apply(store, claim_job(store, SUBMIT), status, fields={"execution.job_no": "7"})
    return job(store, job_id)


def ended(store: JobStore, due_at: datetime | None = None, **fields: Any) -> Job:
    """Inserts a job and brings it to its end."""
    running = submitted(store, **fields)
    assert apply(store, running, Status.FINISHED, due_at=due_at)
    return job(store, running.id)


def job(store: JobStore, job_id: Any) -> Job:
    document = store.get(job_id)
    assert document is not None
    return Job.from_document(document)


def document(store: JobStore, job_id: Any) -> dict[str, Any]:
    found = store.get(job_id)
    assert found is not None
    return found
