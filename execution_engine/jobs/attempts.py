"""A job that has ended is tried again: what a new attempt keeps of the one before."""

from __future__ import annotations

from typing import Any

from execution_engine.jobs.job import Attempt, Job

_KEPT = 50
_KEPT_RESULTS = 1000


def next_attempt(job: Job) -> dict[str, Any]:
    """The fields of the job's next attempt: as of a job that was never run, with the one that ended listed in `attempts`."""
    ended = Attempt.model_validate({**dict(job), "status": str(job.status), "results": job.results[:_KEPT_RESULTS]})
    return {
        "attempt": job.attempt + 1,
        "attempts": [before.model_dump() for before in (*job.attempts[1 - _KEPT :], ended)],
        "times": {"created": job.times.created},
        "execution": {},
        "results": [],
        "notified": {},
        **dict.fromkeys(("exit", "usage", "error", "refused")),
    }
