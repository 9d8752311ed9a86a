"""Asks one execution system how jobs ended that it has no longer and that left no exit record."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

from execution_engine import events
from execution_engine.engine import file_system
from execution_engine.engine.actor import Workplace
from execution_engine.engine.endings import Endings, has_started, last_record_of, tell_copies
from execution_engine.engine.lane_actor import LaneActor
from execution_engine.engine.verdict import Observed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store.job_store import Change
from execution_engine.systems.execution_systems import Account

_SHORTEST, _LONGEST = 0.5, 10.0
"""Seconds between two questions about one job; a sixth of the grace period in between."""


class AccountingActor(LaneActor):
    """Works beside the status actor, which gives a job the status `unknown` and goes on: an accounting can take a minute for an
    answer, and no end of another job waits for it.

    Each job is asked about once in a while, all that are due in one batch, those first that have waited longest.
    """

    def __init__(self, workplace: Workplace, system: str) -> None:
        super().__init__(workplace, system)
        self._endings = Endings(self.site.config, self.clock, self.beat)
        self._interval = min(max(self.settings.grace / 6, _SHORTEST), _LONGEST)
        self._asked: dict[str, float] = {}

    def turn(self) -> int:
        changes: list[Change] = []
        for job, account in self._accounts(self._due()):
            self.beat()
            changes += self._settle(job, account)
        self.note_slow()
        over = [change for change in changes if change.status in FINAL]
        if over:
            self.tell(did={"ended": len(over), "notify": sum(1 for change in over if change.due_at is not None)})
        return 0

    def _due(self) -> list[Job]:
        now, moment = self.clock.monotonic(), self.clock.now()
        brief = [job for job in self.store.followed(self.lane) if job.status is Status.UNKNOWN and job.job_no]
        lost = {job.text_id for job in brief}
        self._asked = {job: at for job, at in self._asked.items() if job in lost}
        ids = [job.id for job in brief if now - self._asked.get(job.text_id, float("-inf")) >= self._interval]
        jobs = self.store.on_system(self.lane, ids) if ids else []
        free = [job for job in jobs if job.lease.until is None or job.lease.until <= moment]
        return sorted(free, key=lambda job: self._asked.get(job.text_id, float("-inf")))

    def _accounts(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Account | None]]:
        """What the system knows of these jobs.  A fault of its class says nothing about any job."""
        if self.careful:
            yield from self._one_by_one(jobs)
            return
        self._asked.update(dict.fromkeys((job.text_id for job in jobs), self.clock.monotonic()))
        try:
            yield from self.system.accounts(jobs)
        except Exception as error:  # noqa: BLE001 - an administrator's class may raise anything
            self._tell_fault("", error)
            for job in jobs:
                yield from self._account(job)

    def _one_by_one(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Account | None]]:
        """Each under a lease of its own: if this process dies of one, the lease names it, and it is judged without."""
        for each in jobs:
            self.beat()
            self.look_at_files()
            job = self.claim_one(each.id, Status.UNKNOWN)
            if job is None:
                continue
            self._asked[job.text_id] = self.clock.monotonic()
            yield from [(job, None)] if job.lease.crashes >= self.settings.crashes else self._account(job)
            self.tell(progress=True)
        self.careful = False

    def _account(self, job: Job) -> Iterator[tuple[Job, Account | None]]:
        try:
            yield from self.system.accounts([job])
        except Exception as error:  # noqa: BLE001 - as in _accounts
            self._tell_fault(job.text_id, error)
            yield job, None

    def _settle(self, job: Job, account: Account | None) -> list[Change]:
        """Stores what became of the job, unless its record has come meanwhile: that is the status actor's to read."""
        change = None
        fault = file_system.fault(job.dir, self.site.config.jobs_dir, self.site.jobs_dir)
        if fault is not None and fault.of_all:
            self.tell_outage(file_system.FILES, fault.why)
        elif (fault is None or job.kill_sent) and last_record_of(job) is None:
            change = self._endings.change(job, Observed(None, Status.UNKNOWN, account, has_started(job)))
        if change is None and job.lease.owner != self.owner:
            return []
        change = change or Change(job, job.status)
        if self.apply([change]):
            return []
        tell_copies(change)
        return [change]

    def _tell_fault(self, job: str, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        events.emit("system.error", system=self.name, method="accounts", job=job, error=repr(error), traceback=text)
