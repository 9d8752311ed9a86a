"""Torque, through pbs-drmaa.

Only the submission goes through DRMAA, whose library here answers "failed" for what it does not know, and "done" to what it could
not do because the server was away.  All jobs are asked about in one qstat, a job is found by its name with qselect, and qdel,
qhold and qrls say truly whether the server heard them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from execution_engine.errors import ExecutionSystemError, NotSupported
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems, torque_commands
from execution_engine.systems.drmaa import DrmaaSystem, came_back, was_killed_by_us, was_started
from execution_engine.systems.drmaa_options import AbsolutePath, DrmaaOptions, Duration
from execution_engine.systems.execution_systems import Account
from execution_engine.systems.listing import RECENT
from execution_engine.systems.native_specification import ResourceMapping, Template
from execution_engine.systems.torque_accounts import account_of, exceeded
from execution_engine.systems.torque_commands import TorqueJob

_SAFE_PATH = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_TRIES = 8
"""How often the library asks a server that hangs before it gives up: after 37 s, with PBSAPITIMEOUT=5."""
_SHORTEST_TRY = 3
"""Seconds; with less, Torque's library would try again by itself."""
_FUNCTION = r"(?:\w+: )?"
"""What the library may put before the server's words."""


class TorqueResources(ResourceMapping):
    """How `resources` are asked of Torque.  An `-l nodes` replaces the one before, hence the cores in the one for `gpus`."""

    cores: Template = Field("-l nodes=1:ppn={cores}", description="for a job of more than one core")
    memory: Template = Field(
        "-l mem={memory}b,vmem={memory}b",
        description="for a job that says how much memory it wants; `mem` alone holds each process to it, not their sum",
    )
    walltime: Template = Field("-l walltime={walltime}", description="for a job that says how long it may run")
    gpus: Template = Field("-l nodes=1:ppn={cores}:gpus={gpus}", description="for a job that wants graphics processors")


class TorqueOptions(DrmaaOptions):
    """The keys of a Torque system in the configuration."""

    server_name: str | None = Field(
        None, pattern=r"^[\w.:-]+$", description="the host of pbs_server; without it, the one in Torque's own file `server_name`"
    )
    commands: AbsolutePath = Field(
        Path("/usr/local/bin"), description="the directory of qstat, qselect, qdel, qhold, qrls and qsig"
    )
    drmaa_library: AbsolutePath = Field(description="pbs-drmaa, a file libdrmaa.so…; not Torque's own library")
    resources: TorqueResources = Field(
        default_factory=TorqueResources, description="which option of qsub asks for which of a job's `resources`"
    )
    timeout: Duration = Field(40.0, gt=0, description="how long the system may take for one answer")


@execution_systems.register
class Torque(DrmaaSystem[TorqueJob]):
    """Jobs on a Torque server."""

    Options = TorqueOptions
    accounts_apart = False
    has_limits_of_queues = True
    full = re.compile(rf"{_FUNCTION}Maximum number of jobs already in queue")
    closed = re.compile(
        rf"{_FUNCTION}(?:Bad UID for job execution|Access from host not allowed|Unauthorized Request|Queue is not enabled|"
        "Queue is currently not available|No default queue specified|trqauthd)"
    )

    @classmethod
    def environment(cls, options: Any) -> dict[str, str]:
        """The server; a limit to the time for which the library waits for one answer; and the home, whose path the library writes
        into each job's script, whatever the configuration passes on."""
        server = {} if options.server_name is None else {"PBS_DEFAULT": options.server_name}
        return {
            **server,
            "HOME": str(Path.home()),
            "PBSAPITIMEOUT": str(max(_SHORTEST_TRY, int(options.timeout / _TRIES))),
            "DRMAA_LIBRARY_PATH": str(options.drmaa_library),
            **options.environment,
        }

    def contact(self) -> str | None:
        return None if self.options.server_name is None else str(self.options.server_name)

    def check(self) -> None:
        """The library crashes if a session is opened while the server is away."""
        if not self._commands.ask(torque_commands.IS_THERE).strip():
            raise ExecutionSystemError(f"{self.context.name}: qstat -B says nothing about the server", transient=True)

    # --- submission

    def run(self, job: Job) -> str:
        """The library writes the path into a shell script as it is."""
        if (unfit := self.unfit(execution_systems.script(job))) is not None:
            raise ExecutionSystemError(f"{self.context.name} {unfit}; choose another jobs_dir")
        return super().run(job)

    @classmethod
    def unfit(cls, jobs_dir: Path) -> str | None:
        if _SAFE_PATH.fullmatch(str(jobs_dir)):
            return None
        return f"can only run scripts whose path has no blanks and special characters, not {jobs_dir}"

    def native_specification(self, job: Job) -> str:
        """-r n: a job that a lost node took with it is not started again by the server, but ends in error.  -N, at the end: no
        option takes away the name by which the job is found."""
        return " ".join(filter(None, ["-r n", super().native_specification(job), f"-N {self.job_name(job)}"]))

    # --- the queue

    def list_jobs(self) -> Sequence[TorqueJob]:
        said = self._commands(torque_commands.JOBS)
        if said.code != 0 or (said.complaint and not said.out.strip()):
            raise ExecutionSystemError(f"{self.context.name}: qstat ended with {said.code}: {said.complaint}", transient=True)
        try:
            return torque_commands.read_jobs(said.out)
        except torque_commands.Unreadable as error:
            raise ExecutionSystemError(f"{self.context.name}: {error}", transient=True) from None

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        """If a job is missing in the listing, the server is asked for one by its name: should it be there, the listing was not
        whole, and says nothing about any job."""
        return self._believed(super().get_statuses(jobs), {job.text_id: job.execution.name or "" for job in jobs})

    def glance(self, jobs: Sequence[Followed]) -> dict[str, Status]:
        return self._believed(super().glance(jobs), {job.text_id: job.name for job in jobs})

    def _believed(self, statuses: dict[str, Status], names: Mapping[str, str]) -> dict[str, Status]:
        """The statuses that a listing told, unless it left out the first that is missing there: raises then."""
        missing = next((names[job_id] for job_id, status in statuses.items() if status is Status.UNKNOWN and names[job_id]), None)
        if missing is not None and self._find(missing) is not None:
            raise ExecutionSystemError(f"{self.context.name}: qstat left out {missing}, which qselect finds", transient=True)
        return statuses

    def native_ids(self, job: Job) -> list[str]:
        """Of those that have not ended: whatever is known by the name, suspended jobs too, without the completed ones."""
        name = self.job_name(job)
        found = self._named(name)
        over = self._named(name, "C") if found else []
        return [native_id for native_id in found if native_id not in over]

    def _named(self, name: str, state: str | None = None) -> list[str]:
        owner = self.user
        words = torque_commands.named(name, owner) if state is None else torque_commands.named_and(state, name, owner)
        return self._commands.ask(words).split()

    def find(self, job: Job) -> str | None:
        """One listing tells of those that it has, however old it is; about another the server is asked by name.

        A job that the server has forgotten is submitted again: if it was started, its copy ends at once.
        """
        return self._find(self.job_name(job))

    def _find(self, name: str) -> str | None:
        if listed := self.listing(float("inf")).get(name):
            return listed[0].native_id
        found = self._named(name)
        return found[0] if found else None

    # --- control

    def kill(self, job: Job) -> None:
        """Only what is not allowed is refused: whatever else keeps the server from it passes, and it is asked again."""
        self._command(job, torque_commands.delete, refusals=frozenset({torque_commands.NOT_ALLOWED}))

    def hold(self, job: Job) -> None:
        self._command(job, torque_commands.hold)
        self._confirm(job, "hold", "held", state="H", wanted=True)

    def release(self, job: Job) -> None:
        self._command(job, torque_commands.release)
        self._confirm(job, "release", "held", state="H", wanted=False)

    def suspend(self, job: Job) -> None:
        self._command(job, torque_commands.suspend)
        self._confirm(job, "suspension", "running", state="R", wanted=False)

    def resume(self, job: Job) -> None:
        self._command(job, torque_commands.resume)

    def _command(
        self, job: Job, command: Callable[[str], tuple[str, ...]], refusals: Collection[int] = torque_commands.REFUSALS
    ) -> None:
        """Runs the command on the job, however often the server has it.  One that ends meanwhile is no error."""
        self.listing.forget()
        for native_id in self.native_ids(job):
            words = command(native_id)
            said = self._commands(words)
            if said.code == 0 or native_id not in self.native_ids(job):
                continue
            if said.code == torque_commands.NOT_ALLOWED and words[0] == "qsig":
                raise NotSupported(f"{self.context.name} lets only its operators {words[2]} jobs, such as {job.label}")
            told = f"{words[0]} says: {said.complaint or 'nothing'} (exit code {said.code})"
            raise ExecutionSystemError(f"{self.context.name}: {told}", transient=said.code not in refusals)

    def _confirm(self, job: Job, action: str, quality: str, *, state: str, wanted: bool) -> None:
        """Torque takes a hold on a running job, and does nothing."""
        there = self.native_ids(job)
        if not there:
            raise ExecutionSystemError(f"{self.context.name} has {job.label} no longer")
        if set(there).issubset(self._named(self.job_name(job), state)) is not wanted:
            found = f"is not {quality}" if wanted else f"is {quality} all the same"
            raise ExecutionSystemError(f"{self.context.name} took the {action} of {job.label}, which {found}")

    # --- the end of a job

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        """Without a record, what the listing says that told that the job has ended.  Torque sends SIGTERM to a job at its limit:
        the command may still be recorded then, as ended by that signal."""
        if record is None:
            started = was_started(job)
            if was_killed_by_us(job) and not started:
                return None
            listed = self.listing(float("inf")).get(self.job_name(job), [])
            return account_of(listed, started=started, came_back=came_back(job))
        if record.signal is None or was_killed_by_us(job):
            return None
        try:
            return exceeded(self.listing(RECENT).get(self.job_name(job), []), record)
        except ExecutionSystemError:
            return None  # no answer takes nothing from what the record says
