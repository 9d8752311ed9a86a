"""Carries out what apps and people ask of jobs: kill, hold, release, suspend, resume, retry."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace

from execution_engine import events
from execution_engine.engine.actor import Actor, Stop, Workplace, is_healthy
from execution_engine.engine.assembly import lane
from execution_engine.engine.lane_actor import ASIDE
from execution_engine.engine.questions import Questions
from execution_engine.engine.starts import Unclear, never_starts
from execution_engine.engine.vetting import KEEP_FROM_STARTING, Vetting
from execution_engine.errors import ExecutionSystemError, NotSupported, StoreError
from execution_engine.jobs.attempts import next_attempt
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, REQUESTS, RETRY, Status, may_follow
from execution_engine.notification.notifier import Notifier
from execution_engine.store.changes import due_after_release
from execution_engine.store.job_store import BrokenJob, Change, Work
from execution_engine.systems.execution_systems import ExecutionSystem


class RequestActor(Actor):
    """The requests for jobs that one system has, or (without a system) for those that none has: not yet, or no longer."""

    work = Work.REQUEST

    def __init__(self, workplace: Workplace, system: str | None) -> None:
        super().__init__(workplace)
        self._vetting = Vetting(Notifier(self.site.config.notification), self.settings.crashes)
        plan = self.site.systems[system] if system is not None else None
        self.lane = lane(plan) if plan is not None else None
        self._system: ExecutionSystem | None = plan.make() if plan is not None else None
        self._is_open = False
        self._doubtful: list[Job] = []
        self._statuses: dict[str, Status] | None = None

    def _open(self) -> ExecutionSystem:
        """The system, opened for the first request that needs it: what it does not have yet can end while it is out of reach."""
        assert self._system is not None
        if not self._is_open:
            self._is_open = True
            self._system.boot()
        return self._system

    def close(self) -> None:
        if self._system is not None and self._is_open:
            self._system.close()

    def turn(self) -> int:
        claims = sorted(self.claim(self.lane), key=lambda claimed: _is_on_system(claimed.job))
        changes: list[Change] = []
        self._begin_batch([claimed.job for claimed in claims if isinstance(claimed.job, Job)])
        try:
            for claimed in claims:
                self.beat()
                if (change := self._answer_or_blame(claimed.job)) is not None:
                    changes.append(change)
        finally:
            lost = self.apply(changes)
        if len(changes) < len(claims):  # the others' leases say when they are due again
            self.store.renew(self.owner, self.due_in(self.settings.retry_delay.max / 4))
        if claims:
            notify = sum(1 for change in changes if change.status in FINAL and change.due_at is not None)
            self.tell(did={"answered": len(changes) - len(lost), "notify": notify})
        return len(claims)

    def _begin_batch(self, jobs: list[Job]) -> None:
        if self._system is not None:
            self._system.begin_batch()
        self._doubtful = [job for job in jobs if _is_on_system(job) and self._refusal(job, job.request) is not None]
        self._statuses = None

    def _status(self, system: ExecutionSystem, job: Job) -> Status:
        """What the job is now.  The first question is about all jobs of the batch that seem to be asked in vain."""
        if self._statuses is None:
            self._statuses = Questions(system, self.clock, self.beat).statuses(self._doubtful)
        return self._statuses.get(job.text_id, job.status)

    def _answer_or_blame(self, job: Job | BrokenJob) -> Change | None:
        """As `_answer`; a fault that one job meets is charged to that job alone, and its request is refused when it goes on."""
        try:
            return self._answer(job)
        except (ExecutionSystemError, StoreError, Stop):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a document, or an administrator's class, has led to
            text = "".join(traceback.format_exception(error))
            events.emit("system.error", system=self.lane or "", job=str(job.id), error=repr(error), traceback=text)
            notified = job.times.notified if isinstance(job, Job) else None
            later = self.due_in(self.settings.retry_delay.min)
            return Change(job, job.status, crash=repr(error), due_at=due_after_release(job.status, notified, later))

    def _answer(self, job: Job | BrokenJob) -> Change | None:
        """None: it cannot be carried out now, and the others can.  Raises ExecutionSystemError in an outage."""
        if isinstance(job, BrokenJob):
            return self._answer_broken(job)
        what = job.request
        if job.lease.crashes >= self.settings.crashes and not job.lease.crash.startswith(ASIDE):
            return self._refuse(job, f"carrying it out failed {job.lease.crashes} times: {job.lease.crash}")
        why = self._refusal(job, what)
        if _is_on_system(job) and self._system is None:
            return self._refuse(job, "nobody knows its system any more: mend execution.lane in the database")
        if _is_on_system(job) and (why is None or what in _SYSTEM_KNOWS):
            return self._ask_system(job, what, why)
        if why is not None:
            return self._refuse(job, why)
        try:
            return self._before_submission(job, what)
        except Unclear:
            return None

    def _answer_broken(self, job: BrokenJob) -> Change:
        """A document that is no job can only end; but one that has ended, or that a system has, is left as it is."""
        asked = str(job.document.get("request"))
        if job.status in FINAL or job.status in ON_SYSTEM:
            events.emit("job.request", job=str(job.id), what=asked, refused="; ".join(job.problems))
            return Change(job, job.status, answered=asked)
        return replace(self._vetting.broken(job, self.clock.now()), answered=asked)

    def _refusal(self, job: Job, what: str) -> str | None:
        """Why the request makes no sense for the job as it is; None when it does."""
        status, on_system = job.status, job.execution.job_no is not None
        if not isinstance(what, str) or what not in REQUESTS:
            return f"there is no request {what!r}; there are {', '.join(REQUESTS)}"
        if status in REQUESTS[what]:
            return None
        hint = {
            ("hold", Status.RUNNING): "it runs already; `suspend` stops it where it is",
            ("release", Status.SUSPENDED): "it is suspended, not held; use `resume`",
            ("resume", Status.HOLD): "it is held, not suspended; use `release`",
            (RETRY, Status.FINISHED): "it finished, and what finished is not run again; submit it as a new job",
        }.get((what, status))
        if hint is None and status in FINAL:
            return f"the job has ended already ({status})"
        place = "on its system" if on_system else "not on a system yet"
        return hint or f"a job that is {status} ({place}) cannot be asked to {what}"

    def _before_submission(self, job: Job, what: str) -> Change:
        """Of jobs that no system has: not yet, or no longer.  Raises Unclear."""
        if what == RETRY:
            return self._begin_anew(job)
        if what in KEEP_FROM_STARTING and not never_starts(job) and job.status is Status.TO_BE_SUBMITTED:
            return self._refuse(job, "its command has started: an earlier submission was taken, whose answer got lost; ask again")
        if what == "kill":
            return self._vetting.end(
                job, Status.KILLED, "killed", f"killed on request while it was {job.status}", self.clock.now()
            )
        status = Status.HOLD if what == "hold" else Status.TO_BE_BUILT
        if not may_follow(job.status, status):
            return self._refuse(job, f"it is {job.status}, but has no native id: no system knows it; `kill` ends it")
        return self._taken_up(job, status, f"{what} on request")

    def _begin_anew(self, job: Job) -> Change:
        """The one way out of a final status.  The job is built and routed as if it were new; its owner is told again."""
        fields = next_attempt(job)
        change = self._taken_up(job, Status.TO_BE_BUILT, f"attempt {fields['attempt']} on request")
        return replace(change, fields={**change.fields, **fields})

    def _ask_system(self, job: Job, what: str, why: str | None) -> Change | None:
        """`why`: what speaks against it by the stored status, which may be older than the last request."""
        if self._system is None:
            return self._refuse(job, "it is said to be on an execution system, and does not say on which")
        system = self._open()
        ask: dict[str, Callable[[Job], None]] = {
            "kill": system.kill,
            "hold": system.hold,
            "release": system.release,
            "suspend": system.suspend,
            "resume": system.resume,
        }
        try:
            if why is not None and (status := self._status(system, job)) not in REQUESTS[what]:
                if what == "resume" and status is Status.RUNNING and system.may_resume_running:
                    system.resume(job)
                return self._refuse(job, why)
            ask[what](job)
        except NotSupported as error:
            return self._refuse(job, str(error))
        except ExecutionSystemError as error:
            if not error.transient:
                return self._refuse(job, str(error))
            if not is_healthy(system):
                raise
            return None
        self.tell(works="system", at=self.clock.monotonic())
        return self._taken_up(job, job.status, f"{what} sent to {job.execution.system}", sent=True)

    def _taken_up(self, job: Job, status: Status, why: str, sent: bool = False) -> Change:
        events.emit("job.request", job=job.text_id, label=job.label, what=job.request, why=why)
        requested = {"what": job.request, "at": self.clock.now(), "why": why, "sent": sent}
        return Change(job, status, why=why, fields={"requested": requested}, answered=job.request)

    def _refuse(self, job: Job, why: str) -> Change:
        events.emit("job.request", job=job.text_id, label=job.label, what=str(job.request), refused=why)
        refused = {"what": str(job.request), "at": self.clock.now(), "why": why, "sent": False}
        waits_to_be_told = job.status in FINAL and job.times.notified is None
        due_at = self.clock.now() if waits_to_be_told else None
        return Change(job, job.status, fields={"refused": refused}, answered=job.request, due_at=due_at)


_SYSTEM_KNOWS = frozenset({"hold", "release", "suspend", "resume"})
"""Requests that depend on what the system has done with the job since its status was stored."""


def _is_on_system(job: Job | BrokenJob) -> bool:
    """Its system has it, and must be asked."""
    return isinstance(job, Job) and job.status in ON_SYSTEM and job.execution.job_no is not None
