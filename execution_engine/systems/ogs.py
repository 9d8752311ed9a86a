"""Grid Engine: Open Grid Scheduler, Son of Grid Engine and their relatives.

Jobs are submitted and controlled through DRMAA.  All jobs are asked about in one qstat, because DRMAA asks about each on its own
and knows nothing of those that have ended; why a job ended without leaving a record is asked of qacct.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job
from execution_engine.systems import execution_systems, ogs_commands
from execution_engine.systems.commands import NoAnswer
from execution_engine.systems.drmaa import DrmaaSystem, came_back, was_killed_by_us, was_started
from execution_engine.systems.drmaa_options import AbsolutePath, DrmaaOptions, Duration
from execution_engine.systems.execution_systems import Account
from execution_engine.systems.listing import RECENT
from execution_engine.systems.native_specification import ResourceMapping, Template
from execution_engine.systems.ogs_accounts import account_of
from execution_engine.systems.ogs_commands import QueuedJob, Record

_NOT_FOUND = re.compile(r"\bnot found\b")


class GridEngineResources(ResourceMapping):
    """How `resources` are asked of Grid Engine.  What is asked with `-l` is multiplied by the cores of a job, hence the share."""

    cores: Template = Field("-pe {parallel_environment} {cores}", description="for a job of more than one core")
    memory: Template = Field("-l h_vmem={memory_per_core}", description="for a job that says how much memory it wants")
    walltime: Template = Field("-l h_rt={walltime}", description="for a job that says how long it may run")
    gpus: Template = Field("-l gpu={gpus}", description="for a job that wants graphics processors")


class OGSOptions(DrmaaOptions):
    """The keys of a Grid Engine system in the configuration.  The defaults are the places of Debian's packages."""

    root: AbsolutePath = Field(Path("/var/lib/gridengine"), description="SGE_ROOT")
    cell: str = Field("default", min_length=1, description="SGE_CELL")
    qmaster_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="SGE_QMASTER_PORT; without it, the service sge_qmaster of /etc/services"
    )
    commands: AbsolutePath = Field(Path("/usr/lib/gridengine"), description="the directory of qstat, qacct and qconf")
    drmaa_library: AbsolutePath = Field(
        Path("/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0"), description="Grid Engine's DRMAA library"
    )
    parallel_environment: str = Field("smp", min_length=1, description="what a job of several cores runs in; on one host")
    accounting_timeout: Duration = Field(
        50.0, gt=0, description="how long qacct may take, which reads the whole accounting; less than engine.actor_deadline"
    )
    resources: GridEngineResources = Field(
        default_factory=GridEngineResources, description="which option of qsub asks for which of a job's `resources`"
    )


@execution_systems.register
class OGS(DrmaaSystem[QueuedJob]):
    """Jobs on a Grid Engine cell."""

    Options = OGSOptions
    trusts_session = True
    closed = re.compile(r"denied: host .* is (?:no|not a) submit host|job rejected: \S+ is not allowed to submit jobs")

    def __init__(self, context: execution_systems.Context, options: Any) -> None:
        super().__init__(context, options)
        self._accounting = replace(self._commands, timeout=options.accounting_timeout)

    @classmethod
    def environment(cls, options: Any) -> dict[str, str]:
        """The cell, and room for libjemalloc, which Debian's libdrmaa needs: it wants more static thread-local storage than a
        process keeps for a library that is loaded late."""
        port = {} if options.qmaster_port is None else {"SGE_QMASTER_PORT": str(options.qmaster_port)}
        return {
            "SGE_ROOT": str(options.root),
            "SGE_CELL": options.cell,
            **port,
            "DRMAA_LIBRARY_PATH": str(options.drmaa_library),
            "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384",
            **options.environment,
        }

    def check(self) -> None:
        self._commands.ask(ogs_commands.IS_THERE)

    def names(self) -> Mapping[str, str]:
        return {"parallel_environment": self.options.parallel_environment}

    def native_specification(self, job: Job) -> str:
        """-r n: a job that a lost node took with it is not started again by the cell, but ends in error."""
        return f"-r n {super().native_specification(job)}".rstrip()

    # --- the queue

    def native_ids(self, job: Job) -> list[str]:
        """One that is not listed may have been submitted since: another listing tells, if this one is not of the same batch."""
        name = self.job_name(job)
        found = self.listing(max(RECENT, self.since_batch())).get(name) or self.listing(self.since_batch()).get(name, [])
        return [queued.native_id for queued in found]

    def find(self, job: Job) -> str | None:
        return next(native_id for _, native_id in self.find_many([job]))

    def find_many(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Looks in the queue, then, for those that were started, in the accounting.

        One that is in neither certainly did not run: the start marker is made before the command is.
        """
        gone: list[Job] = []
        for job in jobs:
            queued = self.listing(RECENT).get(self.job_name(job))
            if queued or not was_started(job):
                yield job, queued[0].native_id if queued else None
            else:
                gone.append(job)
        for job, records in self._records(gone):
            if isinstance(records, ExecutionSystemError):
                raise records
            yield job, records[0].native_id if records else None

    def list_jobs(self) -> list[QueuedJob]:
        try:
            return ogs_commands.read_queue(self._commands.ask(ogs_commands.QUEUE))
        except ogs_commands.Unreadable as error:
            raise ExecutionSystemError(f"{self.context.name}: {error}", transient=True) from None

    # --- the end of a job

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        """Asked only about jobs that left no record."""
        return None if record is not None else next((account for _, account in self.accounts([job])), None)

    def accounts(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Account | None]]:
        """What is known without the accounting comes first.  Nothing is said of a job while the queue cannot be asked, nor
        while the accounting takes longer than it may.
        """
        gone: list[Job] = []
        for job in jobs:
            try:
                queued = self.listing(RECENT).get(self.job_name(job), [])
            except ExecutionSystemError:
                continue
            if queued:
                yield job, self._give_up(job, queued)
            elif was_killed_by_us(job) and not was_started(job):
                yield job, None  # the accounting has nothing on a job that was deleted while it was queued
            else:
                gone.append(job)
        for job, records in self._records(gone):
            if isinstance(records, NoAnswer):
                continue
            if isinstance(records, ExecutionSystemError):
                yield job, Account(message=f"the accounting cannot be asked: {records}")
            else:
                yield job, account_of(records, came_back=came_back(job))

    def _give_up(self, job: Job, queued: Sequence[QueuedJob]) -> Account:
        """The end of a job in an error state: it is deleted, or whoever clears the error would start a job that has ended."""
        explanation = ogs_commands.read_explanation(self._commands(ogs_commands.explain(queued[0].native_id)).out)
        self.kill(job)
        reason = "node lost" if was_started(job) else "never started"
        return Account(reason, message=explanation or f"Grid Engine put it into the state {queued[0].state}")

    def _records(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, list[Record] | ExecutionSystemError]]:
        """The accounting records of each, the oldest first, or why they are not known; as many as possible in one question."""
        named = {self.job_name(job): job for job in jobs}
        for names in ogs_commands.alike(named):
            try:
                found = self._ask_accounting(names)
            except ExecutionSystemError as error:
                yield from ((named[name], error) for name in names)
            else:
                yield from ((named[name], [record for record in found if record.name == name]) for name in names)

    def _ask_accounting(self, names: Sequence[str]) -> list[Record]:
        said = self._accounting(ogs_commands.accounting(names, self.user))
        if said.code != 0:
            if _NOT_FOUND.search(said.complaint):
                return []
            raise ExecutionSystemError(f"{self.context.name}: qacct ended with {said.code}: {said.complaint}", transient=True)
        try:
            return [record for record in ogs_commands.read_accounting(said.out) if record.owner == self.user]
        except ogs_commands.Unreadable as error:
            raise ExecutionSystemError(f"{self.context.name}: {error}", transient=True) from None
