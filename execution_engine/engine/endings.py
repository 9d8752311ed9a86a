"""What is stored of a job that its system has no longer: how it ended, what it left, and that somebody is to be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from execution_engine import events
from execution_engine.building.outputs import collect
from execution_engine.clock import Clock
from execution_engine.config import Config
from execution_engine.engine.starts import Unclear, never_starts
from execution_engine.engine.verdict import GONE_WITHOUT_RECORD, Observed, Verdict, judge
from execution_engine.jobs.exit_record import ExitRecord, find_exit_record, read_copies, read_exit_record, read_start_marker
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import Change


class Endings:
    """Judges what was seen of jobs, for the actors that follow them."""

    def __init__(self, config: Config, clock: Clock, beat: Callable[[], object]) -> None:
        """`beat` is called while the results of a job are looked for."""
        self._notifier = Notifier(config.notification)
        self._grace = config.engine.grace
        self._clock = clock
        self._beat = beat

    def lost(self, job: Job) -> Change | None:
        """The change of a job without a record before its system's accounting has been asked; None: that is known already."""
        return None if job.status is Status.UNKNOWN else Change(job, Status.UNKNOWN, why=GONE_WITHOUT_RECORD)

    def change(self, job: Job, seen: Observed) -> Change | None:
        """What becomes of the job; None: nothing is new."""
        verdict = judge(job, seen, self._clock.now(), self._grace)
        if verdict.status is job.status and not verdict.fields:
            return None
        if verdict.status in FINAL and _is_on_the_ground_that_it_did_not_start(verdict, seen):
            try:
                if not never_starts(job):
                    return Change(job, Status.RUNNING, why="its command has started after all")
            except Unclear:
                return None
        if verdict.status not in FINAL:
            return Change(job, verdict.status, why=verdict.why, fields=verdict.fields)
        fields = {**verdict.fields, **self._results(job)}
        told = self._notifier.targets_of(job.model_copy(update={"status": verdict.status}))
        return Change(job, verdict.status, why=verdict.why, fields=fields, due_at=self._clock.now() if told else None)

    def _results(self, job: Job) -> dict[str, Any]:
        if not job.outputs or job.dir is None:
            return {"results": []}
        try:
            results, cut = collect(Path(job.dir), job.outputs, self._beat)
        except OSError as error:
            events.emit("results.unreadable", job=job.text_id, directory=job.dir, error=str(error))
            return {"results": []}
        return {"results": [result.model_dump() for result in results], **({"results_cut": True} if cut else {})}


def _is_on_the_ground_that_it_did_not_start(verdict: Verdict, seen: Observed) -> bool:
    return seen.record is None and (not seen.started or verdict.fields["exit"]["reason"] == "never started")


def record_of(directory: str | None, attempt: int) -> ExitRecord | None:
    """The exit record of this attempt, if there is one."""
    record = read_exit_record(Path(directory or "/nonexistent"))
    return record if record is not None and record.attempt == attempt else None


def last_record_of(job: Job) -> ExitRecord | None:
    """As `record_of`, of a job that its system has no longer, whatever became of its directory."""
    return find_exit_record(Path(job.dir or "/nonexistent"), job.attempt)


def has_started(job: Job) -> bool:
    """The start marker tells; a job that ran and removed its own marker was seen running."""
    return job.times.started is not None or read_start_marker(Path(job.dir or "/nonexistent")) is not None


def tell_copies(change: Change) -> None:
    """The events of the further copies of a job that has ended."""
    job = change.job
    if change.status in FINAL and isinstance(job, Job):
        for host in copies_of(job):
            events.emit("job.second_copy", job=job.text_id, label=job.label, host=host)


def copies_of(job: Job) -> list[str]:
    """The hosts of the copies of this attempt that ended at once."""
    return read_copies(Path(job.dir or "/nonexistent"), job.attempt)
