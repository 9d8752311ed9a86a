"""What an execution system is, and how one is registered.

    from execution_engine.systems import execution_systems

    @execution_systems.register
    class MySystem(execution_systems.ExecutionSystem):
        def run(self, job): ...          # start it, return the native id
        def get_status(self, job): ...   # -> Status
        def kill(self, job): ...

A system lives in an actor process: `boot` is called once there before anything else, `close` at its end.  Every method may be
called again for the same job after a crash.  The engine reads the job script's exit record itself; a system tells only what it
knows beyond that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from execution_engine.errors import ExecutionSystemError, NotSupported, PluginError, SystemClosed, SystemFull
from execution_engine.jobs.exit_record import JOB_SCRIPT, ExitRecord
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job, Umask, Usage
from execution_engine.jobs.status import Status
from execution_engine.plugins import Registry

__all__ = [
    "Account",
    "Context",
    "ExecutionSystem",
    "ExecutionSystemError",
    "Health",
    "NotSupported",
    "Options",
    "Started",
    "Status",
    "SystemClosed",
    "SystemFull",
    "register",
    "registered",
    "registry",
]


class Options(BaseModel):
    """The keys that a system's entry in the configuration may have beside `class`.  A system with more declares a subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    umask: Annotated[Umask, Field(min_length=1)] = Field(
        "077",
        description="umask of its jobs and, with it, the mode of their directories, in quotes; the widest that a job's own "
        '`umask` may be.  The group may look into them with "027"; it must be let into jobs_dir, too',
    )
    prologue: str = Field(
        "",
        description="lines for /bin/sh before each command, such as `. /etc/profile.d/modules.sh; module load blast`",
    )
    shell: tuple[str, ...] = Field(
        (), description="program and arguments that run a command that is a string and has no #! line; none: /bin/sh"
    )


@dataclass(frozen=True, slots=True)
class Context:
    """What the engine tells a system about its surroundings."""

    name: str
    """the system's name in the configuration"""
    run_dir: Path
    """for sockets and the like; only the daemon's user can open it"""
    environment: dict[str, str] = field(default_factory=dict)
    """what of the engine's own environment a job may see"""
    kill_delay: float = 10.0
    """seconds between asking a job's processes to end and ending them"""


@dataclass(frozen=True, slots=True)
class Started:
    """A job that a system took.  `status`: what it is now, where the system knows it (Local starts at once)."""

    native_id: str
    status: Status = Status.SUBMITTED


@dataclass(frozen=True, slots=True)
class Account:
    """What a system knows about how a job ended, beside the exit record.  None: it does not know."""

    reason: str | None = None
    """walltime, memory, cpu time, killed, killed by the system, rerun, node lost, never started: what ended the job, when the
    system did it or saw it"""
    code: int | None = None
    """the exit status of the job script, 128 + n for signal n"""
    usage: Usage | None = None
    message: str = ""
    """the system's own words"""
    settled: bool = True
    """False: the script ended by itself, so there should be an exit record, which may be late: a network file system shows new
    files after a while.  `code` is no more than what the system saw"""
    presumed: str | None = None
    """the reason that holds if neither a start marker nor a record has come when the grace period is over"""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a system answers."""

    ok: bool
    message: str = ""


class ExecutionSystem(ABC):
    """A place where jobs run.  `run`, `get_status` and `kill` are all that must be implemented.

    Errors: raise ExecutionSystemError(transient=True) when the system is down or busy: the engine tries again later, the job
    keeps its status.  Raise it with transient=False when this job can never run there: it ends in `error` with the message.
    Raise SystemFull from `run` when the system works but takes no more jobs now, and SystemClosed when it takes none, for a
    reason that is not the job's: submissions rest, for a time that grows; when it is full, until a job has ended.  An OSError
    from `run` says that the connection broke and the system may have the job: another process calls `find` before the next try.
    Any other exception is a fault of the system's class: it is logged with its traceback, and after a submission counts as
    "unknown", too.
    """

    Options: ClassVar[type[Options]] = Options
    host_bound: ClassVar[bool] = False
    """True: a job that was built by an engine on one host can be run by that engine only."""
    record_suffices: ClassVar[bool] = True
    """True: a job's exit record is its end, and the system need not be asked about it again.  False: it ends only when the
    system has said so too."""

    takes_ahead: ClassVar[bool] = False
    """True: `run_many` may be given more jobs than there are slots; it starts each as soon as there is room, and gives back those
    for which there is none in a moment (SystemFull).  It has handed them over when it returns, and may be called again while
    outcomes of the last call are still to come; those jobs start later."""

    may_resume_running: ClassVar[bool] = False
    """True: to resume a job that runs does no harm, and lets go on what a suspension that was cut short had stopped of it."""

    accounts_apart: ClassVar[bool] = True
    """True: what `accounts` asks may take long, so that a process of its own asks it, and no end of another job waits for that.
    False: it is at hand, and asked with the status."""

    longest_interval: ClassVar[float | None] = None
    """Seconds: ask at least so often while there are jobs, where asking is cheap; None: as the configuration says."""

    def __init__(self, context: Context, options: Any) -> None:
        """Keeps its arguments and touches nothing else; `options` is an instance of the class' `Options`."""
        self.context = context
        self.options = options

    @classmethod
    def environment(cls, options: Any) -> dict[str, str]:
        """What must be in the environment of a process before it starts, so that this system can be used in it.

        For a C library that reads its settings when it is loaded.  Only processes that work with the system get it.
        """
        del options
        return {}

    @classmethod
    def unfit(cls, jobs_dir: Path) -> str | None:
        """Why this system cannot run jobs whose directories are below this one; None: it can, as far as the name tells."""
        del jobs_dir
        return None

    # --- life in the actor process

    def boot(self) -> None:
        """Called once in the process that will use it (open a session here).  May raise ExecutionSystemError."""

    def close(self) -> None:
        """Called at the end of that process, also after an error."""

    # --- what every system has

    @abstractmethod
    def run(self, job: Job) -> str | Started:
        """Starts the job script (`script(job)`), which does all the rest, and returns the native id, never an empty one."""

    @abstractmethod
    def get_status(self, job: Job) -> Status:
        """What the job is now: one of ON_SYSTEM or FINAL.  A final one means "the system has it no longer"; the exit record
        decides how it ended.  Raise ExecutionSystemError(transient=True) when the system cannot be asked; return UNKNOWN when
        it was asked and does not know this job.
        """

    @abstractmethod
    def kill(self, job: Job) -> None:
        """Asks that the job be ended with all of its processes; returns at once.  A job that is gone already is not an error.
        The engine takes the kill as done when `get_status` says that the job is no longer there.
        """

    # --- what a system that can do better overrides

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | Started | Exception]]:
        """Starts these jobs, and yields each with its outcome as soon as that is known."""
        for job in jobs:
            try:
                yield job, self.run(job)
            except Exception as error:  # noqa: BLE001 - the caller sorts the outcomes
                yield job, error

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        """The status of each job by its `text_id`; a job that is left out was not asked about.  One query for all, if
        possible."""
        return {job.text_id: self.get_status(job) for job in jobs}

    def glance(self, jobs: Sequence[Followed]) -> dict[str, Status]:
        """As `get_statuses`, of jobs in brief: for a system that has tens of thousands of jobs, and knows them by their names or
        native ids.  Only a job whose status is another now, or that is gone, is looked at as a whole then.
        """
        raise NotSupported(f"{self.context.name} is asked about whole jobs, not about {len(jobs)} in brief")

    def find(self, job: Job) -> str | None:
        """The native id under which the system knows `job.execution.name`, or None when it certainly does not have it.

        Called after a crash between the submission and the storing of its id.  A system that cannot look keeps this default:
        the job is submitted again, and the start marker in the job's directory keeps its command from running twice.
        """
        del job
        return None

    def find_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | None]]:
        """`find` for all of these, each as soon as it is known, in as few questions as the system allows."""
        for job in jobs:
            yield job, self.find(job)

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        """What the system knows about the end of a job that it has no longer.  `record`: what the job script left; with one,
        the answer must be quick: other ends wait for it.
        """
        del job, record
        return None

    def accounts(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, Account | None]]:
        """What the system knows about the ends of these jobs, which it has no longer and which left no exit record: each as
        soon as it is known, in as few questions as the system allows.  A job that is left out was not asked about.
        """
        for job in jobs:
            yield job, self.account(job, None)

    def begin_batch(self) -> None:
        """Called before a batch of requests: what is seen of the queue from now on is good enough for each job of the batch."""

    def hold(self, job: Job) -> None:
        """Keeps a job that the system has queued from starting."""
        raise NotSupported(f"{self.context.name} cannot hold {job.label}: it has no queue of its own")

    def release(self, job: Job) -> None:
        """Takes back `hold`."""
        raise NotSupported(f"{self.context.name} cannot release {job.label}: it has no queue of its own")

    def suspend(self, job: Job) -> None:
        """Stops all processes of a running job where they are."""
        raise NotSupported(f"{self.context.name} cannot suspend {job.label}")

    def resume(self, job: Job) -> None:
        """Lets the processes of a suspended job go on."""
        raise NotSupported(f"{self.context.name} cannot resume {job.label}")

    def keeps_all(self, jobs: Sequence[Job]) -> bool:
        """For a system that takes jobs ahead: whether none of these runs beside those that it counts against its slots."""
        del jobs
        return True

    def slots(self) -> int | None:
        """How many cores the jobs here may use together; None: the system queues by itself and takes any number."""
        return None

    def slow(self) -> str:
        """What took the system long of late, in words for `execd status`; empty: nothing."""
        return ""

    def probe(self) -> Health:
        """Whether the system answers; must be quick and must not raise."""
        return Health(ok=True)


def script(job: Job) -> Path:
    """The absolute path of the job script: the only thing that a system has to run, without arguments."""
    if job.dir is None:
        raise ExecutionSystemError(f"job {job.text_id} has no directory yet")
    return Path(job.dir) / JOB_SCRIPT


registry: Registry[type[ExecutionSystem]] = Registry()
_S = TypeVar("_S", bound=type[ExecutionSystem])


def register(cls: _S) -> _S:
    """Makes a class known under its name, for `class:` in the configuration.  Checks what it must have."""
    if not (isinstance(cls, type) and issubclass(cls, ExecutionSystem)):
        raise PluginError(f"{cls!r} is not a subclass of ExecutionSystem")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"execution system {cls.__name__} lacks {', '.join(missing)}")
    known = registry.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise PluginError(f"two execution systems are called {cls.__name__}: in {known.__module__} and {cls.__module__}")
    registry[cls.__name__] = cls
    return cls


def registered() -> dict[str, type[ExecutionSystem]]:
    """All known execution systems by name."""
    return dict(registry)
