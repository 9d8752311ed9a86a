"""Takes jobs from `to be built` to `to be submitted`: chooses the system, makes the directory and the script."""

from __future__ import annotations

import os
import socket
import traceback
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from execution_engine import events
from execution_engine.building import build
from execution_engine.building.job_directory import directory_of
from execution_engine.building.surroundings import Surroundings
from execution_engine.engine.actor import STORE_INTERVAL, Actor, Stop, Workplace, announce_claims
from execution_engine.engine.assembly import lane
from execution_engine.engine.vetting import Vetting
from execution_engine.errors import BuildError, ExecdError
from execution_engine.jobs.job import SCHEMA_VERSION, Job, Source
from execution_engine.jobs.status import Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import BrokenJob, Change, Work
from execution_engine.systems.execution_systems import Options


class BuildingActor(Actor):
    """One batch of due jobs after the other."""

    work = Work.BUILDING

    def __init__(self, workplace: Workplace) -> None:
        super().__init__(workplace)
        self._vetting = Vetting(Notifier(self.site.config.notification), self.settings.crashes)
        self._host = socket.gethostname()
        self._lanes = {name: lane(plan) for name, plan in self.site.systems.items()}
        self._slots = {name: plan.make().slots() for name, plan in self.site.systems.items()}

    def turn(self) -> int:
        """A batch, and while there are jobs whose inputs must be fetched, one of these after each further batch: a slow server
        keeps nobody waiting for longer than one job takes.
        """
        had, slow = 0, deque[Job]()
        last_claim = self.clock.monotonic() + _LONGEST_TURN
        while True:
            self.turn_began = self.clock.monotonic()
            if self.turn_began < last_claim and not self._stopping:
                had += self._take_up(slow)
            if not slow:
                return had
            if self._stopping:
                self._hand_on([Change(job, Status.TO_BE_BUILT, why="the actor ends") for job in slow])
                return had
            self._build_whole(slow.popleft())

    def _take_up(self, slow: deque[Job]) -> int:
        """Claims a batch and builds it, but for jobs that may take long, or are large: they are put at the end of `slow`."""
        room = self.settings.batch - len(slow)
        claims = self.claim(limit=room) if room else []
        announce_claims(claims, self.owner)
        good, changes = self._vetting.sort(claims, self.clock.now())
        jobs = [(claimed.job, claimed.inputs_left) for claimed in good if isinstance(claimed.job, Job)]
        slow.extend(job for job, inputs_left in jobs if inputs_left or _fetches(job))
        self._build_all([job for job, inputs_left in jobs if not (inputs_left or _fetches(job))], changes)
        return len(claims)

    def _build_whole(self, job: Job) -> None:
        """Builds one job with its inputs, however large: those of a batch would not fit into memory."""
        whole = self.store.whole(job)
        if isinstance(whole, BrokenJob):
            self._hand_on([self._vetting.broken(whole, self.clock.now())])
            return
        if whole is None:
            self.renew()  # it is another's by now, and others may be: then this actor goes no further
            return
        self._build_all([whole], [])

    def _build_all(self, jobs: Iterable[Job], changes: list[Change]) -> None:
        """Builds the jobs, and stores what became of them, and the other changes, as it goes."""
        stored_at = self.clock.monotonic()
        try:
            for job in jobs:
                self.beat()
                self.doing = f"building {job.label}"
                changes.append(self._built(job))
                if self.clock.monotonic() - stored_at >= STORE_INTERVAL:
                    self._hand_on(changes)
                    changes, stored_at = [], self.clock.monotonic()
        except BaseException:
            self.apply(changes)  # what is done is done, also if this process may not go on
            raise
        self._hand_on(changes)

    def _hand_on(self, changes: list[Change]) -> None:
        self.apply(changes)
        if any(change.status is Status.TO_BE_SUBMITTED for change in changes):
            self.note(files=self.turn_began)  # they were made there
        if changes:
            self.tell(did=self._summary(changes))

    def _built(self, job: Job) -> Change:
        """What becomes of the job.  A fault of the engine that only this job meets is charged to it alone."""
        try:
            return self._build(job)
        except (Stop, ExecdError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs are to be built
            text = "".join(traceback.format_exception(error))
            events.emit("job.unbuildable", job=job.text_id, label=job.label, error=repr(error), traceback=text)
            delay = min(2.0 ** (job.lease.crashes + 1), 30.0)
            return Change(job, job.status, crash=repr(error), due_at=self.due_in(delay))

    def _build(self, job: Job) -> Change:
        now = self.clock.now()
        decision = self.site.dispatcher.route(job)
        why = [asked.model_dump() for asked in decision.why]
        if decision.route is None:
            change = self._vetting.end(job, Status.ERROR, "no route", "no route takes this job; see `execd explain`", now)
            return _with(change, {"execution": {**job.execution.model_dump(), "why": why}})
        plan = self.site.systems[decision.route.system]
        slots = self._slots[plan.name]
        execution = {
            "route": decision.route.name,
            "system": plan.name,
            "lane": self._lanes[plan.name],
            "host": self._host,
            "name": f"execd-{job.safe_id}-{job.attempt}",
            "job_no": None,
            "why": why,
        }
        job = job.model_copy(update={"execution": job.execution.model_validate(execution)})
        if slots is not None and job.resources.cores > slots:
            message = f"it asks for {job.resources.cores} cores, {plan.name} has {slots} slot{'' if slots == 1 else 's'}"
            return _with(self._vetting.end(job, Status.ERROR, "submission refused", message, now), {"execution": execution})
        try:
            if os.path.lexists(directory_of(job, self.site.config.jobs_dir)):
                self.renew()  # somebody built here before: what a new owner of the job made is not to be taken away
            directory = build(job, self.site.config, beat=self.beat, surroundings=_surroundings(plan.options))
        except BuildError as error:
            return _with(self._vetting.end(job, Status.ERROR, "build failed", str(error), now), {"execution": execution})
        except OSError as error:
            return self._later(job, error)
        return Change(
            job,
            Status.TO_BE_SUBMITTED,
            why=f"route {decision.route.name}",
            fields={
                "schema": SCHEMA_VERSION,
                "dir": str(directory),
                "priority": job.priority,
                "attempt": job.attempt,
                "execution": execution,
                "times.built": self.clock.now(),
            },
        )

    def _later(self, job: Job, error: OSError) -> Change:
        """The machine's fault, not the job's: a full disk, a directory that cannot be written.  The job waits."""
        self.tell_outage("jobs_dir", f"cannot build in {self.site.config.jobs_dir}: {error}")
        return Change(
            job, Status.TO_BE_BUILT, why=f"cannot be built now: {error}", due_at=self.due_in(self.settings.retry_delay.max / 4)
        )

    def _summary(self, changes: list[Change]) -> dict[str, object]:
        built: dict[str, int] = {}
        for change in changes:
            if change.status is Status.TO_BE_SUBMITTED:
                name = change.fields["execution"]["lane"]
                built[name] = built.get(name, 0) + 1
        if built:
            self._jobs_dir_works()
        return {"built": built, "notify": sum(1 for change in changes if change.status in _ENDS and change.due_at is not None)}

    def _jobs_dir_works(self) -> None:
        self.tell(works="jobs_dir", at=self.clock.monotonic())


_LONGEST_TURN = 60.0
"""Seconds after which a turn claims no more: it ends when all that it claimed is done."""
_ENDS = frozenset({Status.ERROR, Status.KILLED})


def _fetches(job: Job) -> bool:
    """Whether inputs of the job come from elsewhere, which may take long."""
    return any(isinstance(content, Source) for content in job.inputs.values())


def _surroundings(options: Options) -> Surroundings:
    return Surroundings(int(options.umask, 8), options.prologue, options.shell)


def _with(change: Change, fields: dict[str, object]) -> Change:
    return replace(change, fields={**change.fields, **fields})
