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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic

from pydantic import AfterValidator, BeforeValidator, Field

from execution_engine.errors import ExecutionSystemError, SystemFull
from execution_engine.jobs.exit_record import read_start_marker
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.quantities import parse_duration
from execution_engine.systems import execution_systems
from execution_engine.systems.commands import Commands
from execution_engine.systems.drmaa_session import Action, DrmaaSession, NoSuchNativeJob, WrongState
from execution_engine.systems.execution_systems import Health
from execution_engine.systems.listing import ListedJob, Listing, status_of
from execution_engine.systems.native_specification import ResourceMapping


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Duration = Annotated[float, BeforeValidator(parse_duration)]


class DrmaaOptions(execution_systems.Options):
    """The keys that all of these systems have in the configuration."""

    commands: AbsolutePath = Field(description="the directory of the system's commands")
    drmaa_library: AbsolutePath = Field(description="the system's DRMAA library, a file libdrmaa.so…")
    native_specification: str = Field("", description="options of the submit command for all jobs of this system")
    resources: ResourceMapping = Field(
        default_factory=ResourceMapping, description="which option of the submit command asks for which of a job's `resources`"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="further variables for library and commands, such as LD_LIBRARY_PATH"
    )
    timeout: Duration = Field(30.0, gt=0, description="how long the system may take for one answer")


class DrmaaSystem(execution_systems.ExecutionSystem, Generic[ListedJob]):
    """Base of the families; a family says what it knows of a listed job.  One object in one process at a time: a library has one
    session per process."""

    Options = DrmaaOptions
    fault_of_the_system: ClassVar[re.Pattern[str] | None] = None
    """what a refusal says if no job of this engine could be submitted, so that the job is not to blame"""
    full: ClassVar[re.Pattern[str] | None] = None
    """what a refusal says if no more jobs are taken now, beside DRMAA's own word for that"""

    def __init__(self, context: execution_systems.Context, options: Any) -> None:
        super().__init__(context, options)
        self._session = DrmaaSession(context.name, self.contact(), options.timeout)
        self._commands = Commands(
            context.name, options.commands, {**context.environment, **self.environment(options)}, options.timeout
        )
        self.listing = Listing(self.list_jobs)
        self._batch_began = float("inf")

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
            return Health(True, self._session.describe())
        except ExecutionSystemError as error:
            return Health(False, str(error))

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
        statuses = {job.text_id: status_of(listed.get(self.job_name(job), ())) for job in jobs}
        return {job_id: status for job_id, status in statuses.items() if status is not None}

    def glance(self, jobs: Sequence[Followed]) -> dict[str, Status]:
        listed = self.listing()
        statuses = {job.text_id: status_of(listed.get(job.name, ())) for job in jobs}
        return {job_id: status for job_id, status in statuses.items() if status is not None}

    # --- submission

    def run(self, job: Job) -> str:
        name = self.job_name(job)
        self.listing.forget()
        try:
            return self._session.submit(name, execution_systems.script(job), self.native_specification(job))
        except Exception as error:
            words = str(error)
            if self.full is not None and self.full.search(words):
                raise SystemFull(f"{self.context.name} takes no more jobs now: {words}") from error
            if self.fault_of_the_system is not None and self.fault_of_the_system.search(words):
                raise ExecutionSystemError(words, transient=True) from error
            raise

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | Exception]]:
        """One after the other.  When one gets no answer, or no more are taken, the others would fare alike and are not tried."""
        all_alike: Exception | None = None
        for job in jobs:
            if all_alike is not None:
                yield job, all_alike
                continue
            try:
                yield job, self.run(job)
            except (ConnectionError, SystemFull) as error:
                all_alike = error
                yield job, error
            except Exception as error:  # noqa: BLE001 - the caller sorts the outcomes
                yield job, error

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


def was_started(job: Job) -> bool:
    """Whether the job script has begun, as its start marker tells."""
    marker = read_start_marker(Path(job.dir or "/nonexistent"))
    return marker is not None and marker.attempt == job.attempt


def was_killed_by_us(job: Job) -> bool:
    """Whether the system was asked to end the job."""
    return job.requested is not None and job.requested.what == "kill" and job.requested.sent
