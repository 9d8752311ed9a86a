"""What a batch system has in its queue: listed in one query for all jobs, and kept for as long as that is good enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.status import Status

RECENT = 0.5
"""Seconds for which a listing is good enough to find a job by its name; less than between an actor's death and the next claim."""

_BEST_FIRST = (Status.RUNNING, Status.SUSPENDED, Status.PENDING, Status.HOLD, Status.ERROR, Status.FINISHED)


class Listed(Protocol):
    """A job as a batch system lists it."""

    @property
    def native_id(self) -> str:
        """The number under which the system has it."""

    @property
    def name(self) -> str:
        """The job's name, under which it may be there more than once."""

    @property
    def owner(self) -> str:
        """The account that submitted it."""

    @property
    def status(self) -> Status | None:
        """What its state means; None if nobody knows."""


ListedJob = TypeVar("ListedJob", bound=Listed)


class Listing(Generic[ListedJob]):
    """`ask` lists all jobs that the system has now, or raises ExecutionSystemError.  Those that an account other than `owner()`
    submitted are none of ours, whatever names they have."""

    def __init__(self, ask: Callable[[], Iterable[ListedJob]], owner: Callable[[], str]) -> None:
        self._ask = ask
        self._owner = owner
        self._jobs: Mapping[str, list[ListedJob]] = {}
        self._error: ExecutionSystemError | None = None
        self._at = float("-inf")

    def __call__(self, max_age: float = 0.0) -> Mapping[str, list[ListedJob]]:
        """All of our jobs by their names, as they were no more than so many seconds ago.

        Raises ExecutionSystemError if there was no answer, for as long as that is no older: a system that hangs is not waited for
        again for each job of a turn.
        """
        if time.monotonic() - self._at >= max_age:
            self._look()
        if self._error is not None:
            raise self._error
        return self._jobs

    def _look(self) -> None:
        asked_at = time.monotonic()
        jobs: dict[str, list[ListedJob]] = {}
        try:
            owner = self._owner()
            for job in self._ask():
                if job.owner == owner:
                    jobs.setdefault(job.name, []).append(job)
            self._jobs, self._error, self._at = jobs, None, asked_at
        except ExecutionSystemError as error:
            self._error, self._at = error, time.monotonic()

    def forget(self) -> None:
        """The next question is asked anew: the system was told something."""
        self._at = float("-inf")


def status_of(listed: Iterable[Listed]) -> Status | None:
    """The status of a job that is listed so often; None if nobody knows what the states of all mean."""
    statuses = {job.status for job in listed}
    if not statuses:
        return Status.UNKNOWN
    return next((status for status in _BEST_FIRST if status in statuses), None)
