"""Carries out what apps and people ask of jobs: kill, hold, release, suspend, resume."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

from execution_engine import events
from execution_engine.engine.actor import Actor, Workplace
from execution_engine.engine.assembly import lane
from execution_engine.engine.vetting import Vetting
from execution_engine.errors import ExecutionSystemError, NotSupported
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, REQUESTS, Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import BrokenJob, Change, Work
from execution_engine.systems.execution_systems import ExecutionSystem


class RequestActor(Actor):
    """The requests for the jobs of one lane, or (without a system) of jobs that belong to none yet."""

    work = Work.REQUEST

    def __init__(self, workplace: Workplace, system: str | None) -> None:
        super().__init__(workplace)
        self._vetting = Vetting(Notifier(self.site.config.notification), self.settings.crashes)
        plan = self.site.systems[system] if system is not None else None
        self.lane = lane(plan, socket.gethostname()) if plan is not None else None
        self._system: ExecutionSystem | None = plan.make() if plan is not None else None
        self._on_system: dict[str, Callable[[Job], None]] = {}

    def boot(self) -> None:
        if self._system is not None:
            self._system.boot()
            system = self._system
            self._on_system = {
                "kill": system.kill,
                "hold": system.hold,
                "release": system.release,
                "suspend": system.suspend,
                "resume": system.resume,
            }

    def close(self) -> None:
        if self._system is not None:
            self._system.close()

    def turn(self) -> int:
        claims = self.claim(self.lane)
        changes: list[Change] = []
        for claimed in claims:
            self.beat()
            changes.append(self._answer(claimed.job))
        lost = self.apply(changes)
        if claims:
            notify = sum(1 for change in changes if change.status in FINAL and change.due_at is not None)
            self.tell(did={"answered": len(changes) - len(lost), "notify": notify})
        return len(claims)

    def _answer(self, job: Job | BrokenJob) -> Change:
        if isinstance(job, BrokenJob):
            return self._answer_broken(job)
        what = job.request
        why = self._refusal(job, what)
        if why is not None:
            return self._refuse(job, why)
        if job.status in ON_SYSTEM and job.execution.job_no is not None:
            return self._ask_system(job, what)
        return self._before_submission(job, what)

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
        if job.lease.crashes >= self.settings.crashes:
            return f"carrying it out failed {job.lease.crashes} times: {job.lease.crash}"
        if what not in REQUESTS:
            return f"there is no request {what!r}; there are {', '.join(REQUESTS)}"
        if status in FINAL:
            return f"the job has ended already ({status})"
        if status in REQUESTS[what]:
            return None
        hint = {
            ("hold", Status.RUNNING): "it runs already; `suspend` stops it where it is",
            ("release", Status.SUSPENDED): "it is suspended, not held; use `resume`",
            ("resume", Status.HOLD): "it is held, not suspended; use `release`",
        }.get((what, status))
        place = "on its system" if on_system else "not on a system yet"
        return hint or f"a job that is {status} ({place}) cannot be asked to {what}"

    def _before_submission(self, job: Job, what: str) -> Change:
        if what == "kill":
            return self._vetting.end(
                job, Status.KILLED, "killed", f"killed on request while it was {job.status}", self.clock.now()
            )
        status = Status.HOLD if what == "hold" else Status.TO_BE_BUILT
        return self._taken_up(job, status, f"{what} on request")

    def _ask_system(self, job: Job, what: str) -> Change:
        try:
            self._on_system[what](job)
        except NotSupported as error:
            return self._refuse(job, str(error))
        except ExecutionSystemError as error:
            if not error.transient:
                return self._refuse(job, str(error))
            self.report_unless_healthy(self._system, error)
            return Change(job, job.status)
        self.tell(works="system")
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
