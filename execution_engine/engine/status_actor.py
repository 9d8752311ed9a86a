"""Follows the jobs that one execution system has, and gathers what they leave behind."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import datetime

from execution_engine import events
from execution_engine.engine import file_system
from execution_engine.engine.actor import STORE_INTERVAL, Workplace
from execution_engine.engine.endings import Endings, copies_of, has_started, last_record_of, record_of, tell_copies
from execution_engine.engine.lane_actor import ASIDE, LaneActor
from execution_engine.engine.questions import Questions
from execution_engine.engine.verdict import Observed
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store.job_store import Change
from execution_engine.systems.execution_systems import Account, ExecutionSystem

_Records = dict[str, ExitRecord]
_Statuses = dict[str, Status]


class StatusActor(LaneActor):
    """A turn asks about all jobs of the lane at once.  It takes no leases: its changes count only where the job is as it was
    read.

    A system that can tell by little more than the jobs' names (`glance`) is asked so, and only jobs with news are read whole.
    """

    def __init__(self, workplace: Workplace, system: str) -> None:
        super().__init__(workplace, system)
        self._endings = Endings(self.site.config, self.clock, self.beat)
        self.ask(self.system)
        self._read_last = 0
        self._lost = self._changed = self._ended = self._notify = 0
        """jobs of this turn: to be asked about in the accounting, with news, at their end, with somebody to be told"""
        self._fault: str | None = None

    def ask(self, system: ExecutionSystem) -> None:
        """The system that is asked from now on."""
        self.system = system
        self._questions = Questions(system, self.clock, self.beat)
        self._glances = type(system).glance is not ExecutionSystem.glance
        self._accounts_apart = accounts_apart(system)

    def boot(self) -> None:
        """A system that is out of reach keeps nobody from reading what jobs that ended there wrote."""
        try:
            super().boot()
        except ExecutionSystemError as error:
            if error.transient and self.system.record_suffices:
                self._turn(asking=False)
            raise

    def turn(self) -> int:
        self._turn()
        return 0

    def _turn(self, *, asking: bool = True) -> None:
        now = self.clock.now()
        self._lost = self._changed = self._ended = self._notify = 0
        self._fault = None
        here = self._here()
        if here:
            self.look_at_place()
        free = [job for job in here if (until := _lease_until(job)) is None or until <= now]
        if self.careful and asking:
            self._one_by_one(free)
        else:
            self._look(free, asking=asking)
        self.note_slow()
        self.note(
            did={
                "active": len(here) - self._ended,
                "changed": self._changed,
                "ended": self._ended,
                "notify": self._notify,
                "lost": self._lost,
            }
        )
        if self._fault is not None:
            self.tell_outage(file_system.FILES, self._fault)
        elif here:
            self.note(files=self.turn_began)

    def _here(self) -> Sequence[Job | Followed]:
        if self._glances:
            return [job for job in self.store.followed(self.lane) if job.job_no]
        return [job for job in self.store.on_system(self.lane) if job.execution.job_no]

    # --- all at once

    def _look(self, jobs: Sequence[Job | Followed], *, asking: bool = True) -> None:
        """Asks about these jobs and stores what is new; no more than a few are held whole at a time."""
        records = self._records(jobs)
        unclear = [job for job in jobs if job.text_id not in records or not self.system.record_suffices]
        statuses = self._statuses(unclear) if asking else {}
        news = [job for job in jobs if job.text_id in records or _is_news(job, statuses)]
        suspects: list[Job] = []
        for first in range(0, len(news), _MOST_READ):
            whole = self._whole(news[first : first + _MOST_READ])
            aside = [job for job in whole if self._is_suspect(job) and job.text_id not in records]
            suspects += aside
            self._settle([job for job in whole if job not in aside] if aside else whole, records, statuses)
        for job in suspects:
            self._ask_alone(job)

    def _records(self, jobs: Sequence[Job | Followed]) -> _Records:
        """The exit records of these jobs: of so many at a time, in rotation, since the system tells of most ends itself."""
        first = self._read_last if self._read_last < len(jobs) else 0
        records: _Records = {}
        for job in jobs[first : first + _MOST_READ]:
            self.beat()
            if (record := record_of(job.dir, job.attempt)) is not None:
                records[job.text_id] = record
        self._read_last = first + _MOST_READ
        return records

    def _statuses(self, jobs: Sequence[Job | Followed]) -> _Statuses:
        """One question about all jobs.  A system that does not answer says nothing about any of them."""
        brief = [job for job in jobs if isinstance(job, Followed)]
        try:
            statuses = self.system.glance(brief) if brief else self._questions.statuses(self._unsuspected(jobs))
        except ExecutionSystemError as error:
            self.tell_outage("system", str(error))
            return {}
        except Exception as error:  # noqa: BLE001 - a fault of an administrator's class says nothing about any job
            self._tell_fault("", error)
            self.tell_outage("system", f"glance raised {error!r}")
            return {}
        if jobs:
            self.note(works="system", at=self.clock.monotonic())
        return statuses

    def _unsuspected(self, jobs: Sequence[Job | Followed]) -> list[Job]:
        return [job for job in jobs if isinstance(job, Job) and not self._is_suspect(job)]

    def _whole(self, jobs: Sequence[Job | Followed]) -> list[Job]:
        """The jobs as a whole; without those that have changed since they were read in brief."""
        brief = {job.text_id: job.attempt for job in jobs if isinstance(job, Followed)}
        if not brief:
            return [job for job in jobs if isinstance(job, Job)]
        read = self.store.on_system(self.lane, [job.id for job in jobs])
        return [job for job in read if brief.get(job.text_id) == job.attempt]

    def _settle(self, jobs: Sequence[Job], records: _Records, statuses: _Statuses) -> int:
        """Stores what is new of these jobs, a few at a time; returns how many changes took place."""
        done = 0
        stored_at = self.clock.monotonic()
        new: list[Change] = []
        for job in jobs:
            self.beat()
            if (change := self._change(job, records.get(job.text_id), statuses.get(job.text_id))) is not None:
                new.append(change)
            if new and self.clock.monotonic() - stored_at >= STORE_INTERVAL:
                done += self._store(new)
                new, stored_at = [], self.clock.monotonic()
        return done + self._store(new)

    def _store(self, changes: list[Change]) -> int:
        lost = self.apply(changes)
        done = [change for change in changes if str(change.job.id) not in lost]
        for change in done:
            tell_copies(change)
        over = [change for change in done if change.status in FINAL]
        self._changed += len(done)
        self._ended += len(over)
        self._notify += sum(change.due_at is not None for change in over)
        return len(done)

    # --- one by one

    def _one_by_one(self, jobs: Sequence[Job | Followed]) -> None:
        """As `_look`, each job under a lease of its own: if this process dies of one, the lease names it."""
        for each in jobs:
            self.beat()
            if not (health := self.system.probe()).ok:
                raise ExecutionSystemError(health.message, transient=True)
            self.look_at_files()
            job = self.claim_one(each.id, each.status)
            if job is None:
                continue
            if self._is_suspect(job) and record_of(job.dir, job.attempt) is None:
                self._set_aside(job)
                continue
            self._look_at_claimed(job)
            self.tell(progress=True)
        self.careful = False

    def _ask_alone(self, job: Job) -> None:
        """A job that was set aside is asked about again when its time has come, after all others."""
        if job.due_at is not None and job.due_at > self.clock.now():
            return
        claimed = self.claim_one(job.id, job.status)
        if claimed is not None:
            self._look_at_claimed(claimed)

    def _look_at_claimed(self, job: Job) -> None:
        record = record_of(job.dir, job.attempt)
        records = {} if record is None else {job.text_id: record}
        statuses = {} if record is not None and self.system.record_suffices else self._statuses_of(job)
        if not self._settle([job], records, statuses):
            self.apply([Change(job, job.status)])

    def _statuses_of(self, job: Job) -> _Statuses:
        try:
            return self._questions.statuses([job])
        except ExecutionSystemError as error:
            self.tell_outage("system", str(error))
            return {}

    def _is_suspect(self, job: Job) -> bool:
        """To ask about it has ended the engine's process again and again."""
        return job.lease.crashes >= self.settings.crashes

    def _set_aside(self, job: Job) -> None:
        """It is on its system and may do well there: it is followed by its exit record, and asked about again after a while."""
        pause = min(_SET_ASIDE * 2.0 ** min(job.lease.crashes - self.settings.crashes, 10), _LONGEST_ASIDE)
        why = ASIDE + job.lease.crash.removeprefix(ASIDE)
        self.apply([Change(job, job.status, crash=why, due_at=self.due_in(pause))])
        events.emit("job.set_aside", job=job.text_id, label=job.label, seconds=pause, why=why)

    # --- one job

    def _change(self, job: Job, record: ExitRecord | None, status: Status | None) -> Change | None:
        if record is not None and status is not None and status not in _GONE:
            return None  # the script has written its record and is about to end; the system will say so at once
        gone = record is not None or status in _GONE
        if gone and record is None:
            record = last_record_of(job)  # it may have been written between the two looks
        if not gone or record is not None:
            account = self._account(job, record) if gone else None
            return self._endings.change(job, Observed(record, status, account))
        return self._without_record(job, status)

    def _without_record(self, job: Job, status: Status | None) -> Change | None:
        fault = file_system.fault(job.dir, self.site.config.jobs_dir, self.site.jobs_dir)
        if fault is not None and fault.of_all:
            self._fault = fault.why
            return None
        if fault is not None and not job.kill_sent:
            return self._endings.lost(job)
        if (record := last_record_of(job)) is not None:  # the file system came back between the two looks
            return self._change(job, record, status)
        if (other := self._other_copy(job)) is not None:
            return Change(job, job.status, fields={"execution.job_no": other})
        if self._accounts_apart:
            self._lost += 1
            return self._endings.lost(job)
        return self._endings.change(job, Observed(None, status, self._account(job, None), has_started(job)))

    def _other_copy(self, job: Job) -> str | None:
        """The native id of the copy that runs the command, where the one that was stored is of a copy that ended at once."""
        if not copies_of(job):
            return None
        try:
            found = self.system.find(job)
        except Exception as error:  # noqa: BLE001 - as in _account
            self._tell_fault(job.text_id, error)
            return None
        return found if found != job.execution.job_no else None

    def _account(self, job: Job, record: ExitRecord | None) -> Account | None:
        try:
            return self.system.account(job, record)
        except Exception as error:  # noqa: BLE001 - a fault of an administrator's class: the record still tells the end
            self._tell_fault(job.text_id, error)
            return None

    def _tell_fault(self, job: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        events.emit("system.error", system=self.name, job=job, error=repr(error), traceback=text)


def accounts_apart(system: ExecutionSystem) -> bool:
    """Whether a process of its own asks this system how jobs ended that left no record."""
    base = ExecutionSystem
    return system.accounts_apart and (type(system).account, type(system).accounts) != (base.account, base.accounts)


def _lease_until(job: Job | Followed) -> datetime | None:
    return job.lease_until if isinstance(job, Followed) else job.lease.until


def _is_news(job: Job | Followed, statuses: _Statuses) -> bool:
    """Whether a job that left no record must be looked at closely."""
    if isinstance(job, Job):
        return True
    status = statuses.get(job.text_id, job.status)
    return status is not job.status or status in _GONE


_GONE = FINAL | {Status.UNKNOWN}
_MOST_READ = 500
"""Exit records that a turn reads without news, and documents that it holds at a time."""
_SET_ASIDE, _LONGEST_ASIDE = 30.0, 600.0
"""Seconds until a job is asked about again that was set aside; doubled each time."""
