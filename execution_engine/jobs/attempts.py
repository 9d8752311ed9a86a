"""A job that has ended is tried again: what a new attempt keeps of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from execution_engine.jobs.job import Attempt, Job, Result

_KEPT = 50
_KEPT_BYTES = 1 << 16
"""Of the results of an earlier attempt: 50 of them must leave room in a document."""


def next_attempt(job: Job) -> dict[str, Any]:
    """The fields of the job's next attempt: as of a job that was never run, with the one that ended listed in `attempts`."""
    ended = Attempt.model_validate({**dict(job), "status": str(job.status), "results": _first(job.results)})
    return {
        "attempt": job.attempt + 1,
        "attempts": [before.model_dump() for before in (*job.attempts[1 - _KEPT :], ended)],
        "times": {"created": job.times.created},
        "execution": {},
        "results": [],
        "notified": {},
        **dict.fromkeys(("exit", "usage", "error", "refused", "results_cut")),
    }


def _first(results: Sequence[Result]) -> list[Result]:
    """As many of the results as are kept."""
    sizes = accumulate(len(result.path.encode("utf-8", "surrogateescape")) + 40 for result in results)
    return [result for result, size in zip(results, sizes, strict=True) if size <= _KEPT_BYTES]
