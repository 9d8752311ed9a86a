"""Follows the jobs that one execution system has, and gathers what they leave behind."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from execution_engine import events
from execution_engine.building.outputs import collect
from execution_engine.engine.actor import Workplace, ended
from execution_engine.engine.lane_actor import LaneActor
from execution_engine.engine.verdict import Observed, judge
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import ExitRecord, find_exit_record, read_copies, read_exit_record, read_start_marker
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import Change
from execution_engine.systems.execution_systems import Account


class StatusActor(LaneActor):
    """A turn asks about all jobs of the lane at once.  It takes no leases: its changes count only where the job is as it was
    read."""

    def __init__(self, workplace: Workplace, system: str) -> None:
        super().__init__(workplace, system)
        self._notifier = Notifier(self.site.config.notification)

    def boot(self) -> None:
        """A system that is out of reach keeps nobody from reading what jobs that ended there wrote."""
        try:
            super().boot()
        except ExecutionSystemError as error:
            if error.transient and self.system.record_suffices:
                self._turn(lambda jobs: self._look([job for job in jobs if self._record(job) is not None]))
            raise

    def turn(self) -> int:
        self._turn(self._one_by_one if self.careful else self._look)
        return 0

    def _turn(self, look: Callable[[list[Job]], list[Change]]) -> None:
        now = self.clock.now()
        here = [job for job in self.store.on_system(self.lane) if job.execution.job_no]
        changes = look([job for job in here if job.lease.until is None or job.lease.until <= now])
        over = [change for change in changes if change.status in FINAL]
        self.note(
            did={
                "active": len(here) - len(over),
                "changed": len(changes),
                "ended": len(over),
                "notify": sum(1 for change in over if change.due_at is not None),
            }
        )

    def _look(self, jobs: list[Job]) -> list[Change]:
        """Asks about these jobs and stores what is new; returns the changes that took place."""
        records = {job.text_id: self._record(job) for job in jobs}
        statuses = self._statuses([job for job in jobs if records[job.text_id] is None or not self.system.record_suffices])
        changes = []
        for job in jobs:
            self.beat()
            change = self._change(job, records[job.text_id], statuses.get(job.text_id))
            if change is not None:
                changes.append(change)
        lost = self.apply(changes)
        done = [change for change in changes if str(change.job.id) not in lost]
        for change in done:
            self._tell_copies(change)
        return done

    def _tell_copies(self, change: Change) -> None:
        job = change.job
        if change.status in FINAL and isinstance(job, Job):
            for host in read_copies(Path(job.dir or "/nonexistent"), job.attempt):
                events.emit("job.second_copy", job=job.text_id, label=job.label, host=host)

    def _one_by_one(self, jobs: list[Job]) -> list[Change]:
        """As `_look`, each job under a lease of its own: if this process dies of one, the lease names it."""
        changes: list[Change] = []
        for each in jobs:
            self.beat()
            if not (health := self.system.probe()).ok:
                raise ExecutionSystemError(health.message, transient=True)
            job = self.claim_one(each.id)
            if job is None or job.status is not each.status:
                continue
            if job.lease.crashes >= self.settings.crashes:
                now = self.clock.now()
                message = f"the engine's process died {job.lease.crashes} times while it asked for its status: {job.lease.crash}"
                told = bool(self._notifier.targets_of(job))
                change = ended(job, Status.ERROR, "actor crashed", message, now=now, notify=told)
                changes += [] if self.apply([change]) else [change]
                continue
            changes += self._look([job]) or self._unchanged(job)
            self.tell(progress=True)
        self.careful = False
        return changes

    def _unchanged(self, job: Job) -> list[Change]:
        self.apply([Change(job, job.status)])
        return []

    def _record(self, job: Job) -> ExitRecord | None:
        record = read_exit_record(Path(job.dir or "/nonexistent"))
        return record if record is not None and record.attempt == job.attempt else None

    def _statuses(self, jobs: list[Job]) -> dict[str, Status]:
        """One question about all jobs.  A system that does not answer says nothing about any of them."""
        if not jobs:
            return {}
        try:
            statuses = self.system.get_statuses(jobs)
        except ExecutionSystemError as error:
            self.tell_outage("system", str(error))
            return {}
        except Exception as error:  # noqa: BLE001 - a fault of an administrator's class says nothing about any job
            text = "".join(traceback.format_exception(error))
            events.emit("system.error", system=self.name, job="", error=repr(error), traceback=text)
            self.tell_outage("system", f"get_statuses raised {error!r}")
            return {}
        self.note(works="system", at=self.clock.monotonic())
        return statuses

    def _change(self, job: Job, record: ExitRecord | None, status: Status | None) -> Change | None:
        if record is not None and status is not None and status not in _GONE:
            return None  # the script has written its record and is about to end; the system will say so at once
        gone = record is not None or status in _GONE
        if gone and record is None:
            record = find_exit_record(Path(job.dir or "/nonexistent"), job.attempt)  # perhaps written between the two looks
        if gone and record is None and (other := self._other_copy(job)) is not None:
            return Change(job, job.status, fields={"execution.job_no": other})
        seen = Observed(
            record=record,
            status=status,
            account=self._account(job, record) if gone else None,
            started=gone and self._has_started(job),
        )
        verdict = judge(job, seen, self.clock.now(), self.settings.grace)
        if verdict.status is job.status and not verdict.fields:
            return None
        if verdict.status not in FINAL:
            return Change(job, verdict.status, why=verdict.why, fields=verdict.fields)
        fields = {**verdict.fields, "results": self._results(job)}
        told = self._notifier.targets_of(job.model_copy(update={"status": verdict.status}))
        return Change(job, verdict.status, why=verdict.why, fields=fields, due_at=self.clock.now() if told else None)

    def _other_copy(self, job: Job) -> str | None:
        """The native id of the copy that runs the command, where the one that was stored is of a copy that ended at once."""
        if not read_copies(Path(job.dir or "/nonexistent"), job.attempt):
            return None
        found = self.system.find(job)
        return found if found != job.execution.job_no else None

    def _has_started(self, job: Job) -> bool:
        """The start marker tells; a job that ran and removed its own marker was seen running."""
        return job.times.started is not None or read_start_marker(Path(job.dir or "/nonexistent")) is not None

    def _account(self, job: Job, record: ExitRecord | None) -> Account | None:
        try:
            return self.system.account(job, record)
        except Exception as error:  # noqa: BLE001 - as in _statuses: the record still tells the end
            text = "".join(traceback.format_exception(error))
            events.emit("system.error", system=self.name, job=job.text_id, error=repr(error), traceback=text)
            return None

    def _results(self, job: Job) -> list[dict[str, Any]]:
        if not job.outputs or job.dir is None:
            return []
        try:
            return [result.model_dump() for result in collect(Path(job.dir), job.outputs)]
        except OSError as error:
            events.emit("results.unreadable", job=job.text_id, directory=job.dir, error=str(error))
            return []


_GONE = FINAL | {Status.UNKNOWN}
