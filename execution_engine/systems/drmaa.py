"""What all batch systems have in common that are driven through a DRMAA library: submission and control.

A job is known there by its name, `job.execution.name`, which is unique; it is handed over as one script, by its absolute path,
without arguments and environment, because libraries spoil these.  A family of systems (see `ogs`) adds how its queue and its
accounting are asked.
"""

from __future__ import annotations

import os
import re
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic

from execution_engine.errors import ExecutionSystemError, SystemClosed, SystemFull
from execution_engine.jobs.exit_record import read_copies, read_start_marker
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems
from execution_engine.systems.commands import Commands
from execution_engine.systems.drmaa_options import DrmaaOptions
from execution_engine.systems.drmaa_session import Action, DrmaaSession, NoSuchNativeJob, Refused, WrongState
from execution_engine.systems.execution_systems import Health
from execution_engine.systems.listing import ListedJob, Listing, status_of
from execution_engine.users import name_of

_CONFIRMED_AFTER = 1.0
"""Seconds of submission after which what was submitted is looked for."""
_SLOW = 5.0
"""Seconds; a command that takes longer is told of."""
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
"""What no option is made of, and what a library or a server may take for the end."""
_STOPS = (ConnectionError, SystemFull, SystemClosed)


class DrmaaSystem(execution_systems.ExecutionSystem, Generic[ListedJob]):
    """Base of the families; a family says what it knows of a listed job.  One object in one process at a time: a library has one
    session per process."""

    Options = DrmaaOptions
    closed: ClassVar[re.Pattern[str] | None] = None
    """how a refusal begins if no job of this engine would be taken, so that the job is not to blame"""
    has_limits_of_queues: ClassVar[bool] = False
    """True: a queue may be full or closed, and another not: a job that names its own says nothing about the others."""
    trusts_session: ClassVar[bool] = False
    """True: a library that gave right ids once does so until an error; no more of them are looked for in the queue."""
    full: ClassVar[re.Pattern[str] | None] = None
    """how a refusal begins if no more jobs are taken now, beside DRMAA's own word for that"""

    def __init__(self, context: execution_systems.Context, options: Any) -> None:
        super().__init__(context, options)
        self._session = DrmaaSession(context.name, self.contact(), options.timeout)
        self._commands = Commands(
            context.name, options.commands, {**context.environment, **self.environment(options)}, options.timeout
        )
        self.listing = Listing(self.list_jobs, lambda: self.user)
        self._batch_began = float("inf")
        self._is_proven = False

    @cached_property
    def user(self) -> str:
        """The account that submits jobs: a job of the same name that another one planted is not taken for ours."""
        return name_of(os.geteuid())

    # --- what a family says

    def contact(self) -> str | None:
        """The library's contact string; None: its default."""
        return None

    @abstractmethod
    def check(self) -> None:
        """Returns if the system answers, else raises ExecutionSystemError (transient); in `options.timeout` at the most."""

    @abstractmethod
    def list_jobs(self) -> Iterable[ListedJob]:
        """All jobs that the system has now, in one query.  Raises ExecutionSystemError (transient)."""

    @abstractmethod
    def native_ids(self, job: Job) -> list[str]:
        """All native ids under which the system has the job's name now; there are two if a submission was repeated."""

    def template(self) -> Mapping[str, Any]:
        """Attributes of the job template that all jobs have in common."""
        return {"workingDirectory": "/", "outputPath": ":/dev/null", "joinFiles": True}

    def names(self) -> Mapping[str, str]:
        """What placeholders of `options.resources` stand for that are no numbers."""
        return {}

    # --- life in the actor process

    def boot(self) -> None:
        """Opens the session, if the system answers: a library could wait for minutes, or crash, where it does not."""
        self._seal_environment()
        self.check()
        self._session.open()
        self._session.prepare(**self.template())

    def close(self) -> None:
        self._session.close()

    def probe(self) -> Health:
        try:
            self.check()
            if self._session.lost:
                return Health(False, self._session.lost)
            return Health(True, self._session.describe())
        except ExecutionSystemError as error:
            return Health(False, str(error))

    def slow(self) -> str:
        slow = [f"{name} takes {seconds:.0f} s" for name, seconds in self._commands.took.items() if seconds >= _SLOW]
        return ", ".join(sorted(slow))

    def _seal_environment(self) -> None:
        """Leaves in this process' environment only what jobs may see: options such as -V hand all of it on to a job."""
        kept = {**self.context.environment, **self.environment(self.options)}
        for name in set(os.environ) - set(kept):
            del os.environ[name]
        os.environ.update(kept)

    # --- status

    def get_status(self, job: Job) -> Status:
        return self.get_statuses([job]).get(job.text_id, job.status)

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        """One listing for all, whatever their number; a job in a state that nobody knows is left out."""
        listed = self.listing()
        statuses = {job.text_id: status_of(listed.get(job.execution.name or "", ())) for job in jobs}
        return {job_id: status for job_id, status in statuses.items() if status is not None}

    def glance(self, jobs: Sequence[Followed]) -> dict[str, Status]:
        listed = self.listing()
        statuses = {job.text_id: status_of(listed.get(job.name, ())) for job in jobs}
        return {job_id: status for job_id, status in statuses.items() if status is not None}

    # --- submission

    def run(self, job: Job) -> str:
        name = self.job_name(job)
        native = re.sub(r"[\t\r\n]", " ", self.native_specification(job))
        if _CONTROL.search(native):
            raise ExecutionSystemError(f"{self.context.name} is asked for {native!r}, which has control characters")
        self.listing.forget()
        try:
            return self._session.submit(name, execution_systems.script(job), native)
        except Refused as error:
            kind = self._refusal_of_all(error.words)
            if kind is None:
                raise
            words = f"{self.context.name} takes no jobs now: {error.words}"
            if self.has_limits_of_queues and "-q" in job.resources.native.split():
                raise ExecutionSystemError(words, transient=True) from error  # another job's queue may be open
            raise kind(words) from error

    def _refusal_of_all(self, words: str) -> type[SystemFull | SystemClosed] | None:
        """What a refusal in these words says about the other jobs; None: nothing."""
        if self.full is not None and self.full.match(words):
            return SystemFull
        return SystemClosed if self.closed is not None and self.closed.match(words) else None

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | Exception]]:
        """One after the other.  When one gets no answer, or no more are taken, the others would fare alike and are not tried."""
        left = deque(jobs)
        all_alike: Exception | None = None
        while left and all_alike is None:
            for job, outcome in self._confirmed(self._hand_over(left)):
                all_alike = outcome if isinstance(outcome, _STOPS) else all_alike
                yield job, outcome
        for job in left:
            assert all_alike is not None
            yield job, all_alike

    def _hand_over(self, left: deque[Job]) -> list[tuple[Job, str | Exception]]:
        """As many as go over in a moment, and no more when one stops all."""
        outcomes: list[tuple[Job, str | Exception]] = []
        end = time.monotonic() + _CONFIRMED_AFTER
        while left and not (outcomes and (time.monotonic() >= end or isinstance(outcomes[-1][1], _STOPS))):
            job = left.popleft()
            try:
                outcomes.append((job, self.run(job)))
            except Exception as error:  # noqa: BLE001 - the caller sorts the outcomes
                outcomes.append((job, error))
        return outcomes

    def _confirmed(self, outcomes: Sequence[tuple[Job, str | Exception]]) -> Iterator[tuple[Job, str | Exception]]:
        """An id counts when the system shows the job's name under it: a library whose connection is out of step gives one that is
        another's, or nobody's.  One listing for all; a job that has begun needs no other proof."""
        if self._is_proven or not any(isinstance(outcome, str) for _, outcome in outcomes):
            yield from outcomes
            return
        doubt = ""
        listed: Mapping[str, list[ListedJob]] = {}
        try:
            listed = self.listing()
        except ExecutionSystemError as error:
            doubt = str(error)
        for job, outcome in outcomes:
            if isinstance(outcome, str) and not self._shows(listed, job, outcome):
                doubt = doubt or f"{self.context.name} gave {job.label} the id {outcome}, and has no job of its name under it"
                yield job, ConnectionError(doubt)
            else:
                yield job, outcome
        self._is_proven = self.trusts_session and not doubt

    def _shows(self, listed: Mapping[str, list[ListedJob]], job: Job, native_id: str) -> bool:
        number = native_id.partition(".")[0]
        named = listed.get(self.job_name(job), ())
        return any(each.native_id.partition(".")[0] == number for each in named) or _has_begun(job)

    def native_specification(self, job: Job) -> str:
        """What is asked of the system: by the job's resources, then the configuration, then the job itself.  The later wins,
        as far as the system's own rules say so."""
        asked = self.options.resources.options(job.resources, self.names())
        return " ".join(filter(None, [*asked, self.options.native_specification, job.resources.native]))

    def job_name(self, job: Job) -> str:
        """The job's name in the system."""
        if job.execution.name is None:
            raise ExecutionSystemError(f"job {job.text_id} has no name for {self.context.name} yet")
        return job.execution.name

    # --- control

    def begin_batch(self) -> None:
        self._batch_began = time.monotonic()

    def since_batch(self) -> float:
        """How old a listing may be that was made for this batch of requests; less than 0 outside of one."""
        return time.monotonic() - self._batch_began

    def kill(self, job: Job) -> None:
        for native_id in self.native_ids(job):
            try:
                self._session.control(native_id, "terminate")
            except NoSuchNativeJob:
                continue
            except WrongState as error:
                raise ExecutionSystemError(str(error), transient=True) from error  # it is on its way: asked again

    def hold(self, job: Job) -> None:
        self._control(job, "hold", Status.HOLD)

    def release(self, job: Job) -> None:
        self._control(job, "release", Status.PENDING)

    def suspend(self, job: Job) -> None:
        self._control(job, "suspend", Status.SUSPENDED)

    def resume(self, job: Job) -> None:
        self._control(job, "resume", Status.RUNNING)

    def _control(self, job: Job, action: Action, wanted: Status) -> None:
        native_ids = self.native_ids(job)
        if not native_ids:
            raise ExecutionSystemError(f"{self.context.name} has {job.label} no longer")
        for native_id in native_ids:
            try:
                self._session.control(native_id, action)
            except WrongState:
                if self.get_status(job) is not wanted:  # else it was done already, by an actor that died then
                    raise


def _has_begun(job: Job) -> bool:
    """Whether the job script has begun, or what it was is gone: a command may remove its own directory."""
    return was_started(job) or not execution_systems.script(job).exists()


def was_started(job: Job) -> bool:
    """Whether the job script has begun, as its start marker tells."""
    marker = read_start_marker(Path(job.dir or "/nonexistent"))
    return marker is not None and marker.attempt == job.attempt


def came_back(job: Job) -> bool:
    """Whether the job script was started again when it had run already, and ended at once."""
    return bool(read_copies(Path(job.dir or "/nonexistent"), job.attempt))


def was_killed_by_us(job: Job) -> bool:
    """Whether the system was asked to end the job."""
    return job.requested is not None and job.requested.what == "kill" and job.requested.sent
