"""The configuration: what it may hold (pydantic), and how a file becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from execution_engine.quantities import parse_duration, parse_size

Duration = Annotated[float, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(_Section):
    """Where the jobs live."""

    url: str = Field(description="`sqlite:///PATH` (embedded; an absolute path has four slashes) or `mongodb://…`")
    name: str = Field("execd", description="the MongoDB database")
    timeout: Duration = Field(5.0, description="how long one operation may take before the database counts as out of reach")


class PollInterval(_Section):
    """How often the database is asked for due jobs: `min` while there is work, growing to `max` while there is none."""

    min: Duration = Field(0.1, gt=0)
    max: Duration = Field(0.3, gt=0)


class Actors(_Section):
    """Processes at a time; submit, status and request per execution system."""

    building: int = Field(1, ge=1)
    submit: int = Field(1, ge=1)
    notification: int = Field(1, ge=1)


class Engine(_Section):
    """How the engine works."""

    poll_interval: PollInterval = Field(default_factory=PollInterval)
    lease: Duration = Field(60.0, ge=1, description="how long a claim holds unless its actor renews it")
    actors: Actors = Field(default_factory=Actors)
    batch: int = Field(200, ge=1, le=10_000, description="jobs that an actor claims at once")
    actor_deadline: Duration = Field(60.0, gt=0, description="an actor without progress for so long is killed")
    actor_linger: Duration = Field(2.0, ge=0, description="an actor without work ends after so long")
    actor_lifetime: Duration = Field(300.0, gt=0, description="an actor ends after so long, work or not (leaks)")
    crashes: int = Field(3, ge=1, description="a job whose actor died so often ends in error")
    status_interval: PollInterval = Field(
        default_factory=lambda: PollInterval(min=0.5, max=30.0), description="how often a system is asked about its jobs"
    )
    grace: Duration = Field(30.0, ge=0, description="how long a job may be unknown to its system before it ends in error")
    kill_delay: Duration = Field(10.0, ge=0, description="from the request to end (SIGTERM) to the end (SIGKILL)")
    retry_delay: PollInterval = Field(
        default_factory=lambda: PollInterval(min=1.0, max=60.0), description="before a failed submission is tried again; doubles"
    )


class Log(_Section):
    """Where the log goes."""

    file: Path = Field(description="the log file; written by the master alone")
    format: Literal["human", "json"] = "human"
    level: Literal["debug", "info", "warning", "error"] = "info"
    max_size: Size = Field(10 << 20, ge=10_000, description="the file is rotated when it is larger")
    keep: int = Field(5, ge=1, description="rotated files that are kept")


class InputSources(_Section):
    """What `inputs: {name: {source: …}}` of a job may name.  Nothing by default: the daemon can read more than an app should."""

    paths: tuple[Path, ...] = Field((), description="directories below which files may be copied")
    urls: bool = Field(False, description="whether http and https URLs may be fetched")
    max_size: Size = Field(1 << 30, description="of one fetched input")


class SystemEntry(_Section):
    """One execution system: its class, and whatever options that class takes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    class_: str = Field(alias="class", description="name of the class: Local, or one of a plug-in")

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `class`, as the system's `Options` model will check them."""
        return dict(self.model_extra or {})


class RouteEntry(_Section):
    """One route: it takes a job when all of its rules say yes."""

    name: str
    rules: tuple[str | dict[str, dict[str, Any] | None], ...] = Field(
        (), description="names of rules, each alone or with its parameters: `{memory_at_least: {amount: 8G}}`"
    )
    execution_system: str


class Target(_Section):
    """Somebody or something that is told when a job ended."""

    url: str | None = Field(None, description="an apprise URL; `{owner}`, `{project}` and `{name}` are the job's")
    url_file: Path | None = Field(None, description="a file that holds the URL, for one with a password")


class Notification(_Section):
    """Who is told when a job ended."""

    targets: dict[str, Target] = Field(default_factory=dict)
    default: tuple[str, ...] = Field((), description="the targets of a job that says `notify: true` or nothing")
    allow_urls: bool = Field(False, description="whether a job may bring apprise URLs of its own")
    attempts: int = Field(8, ge=1)
    retry_delay: PollInterval = Field(default_factory=lambda: PollInterval(min=10.0, max=3600.0), description="doubles")
    timeout: Duration = Field(20.0, gt=0)


class Config(_Section):
    """The whole configuration.  Relative paths are relative to the file's directory."""

    file: Path = Field(exclude=True)
    database: Database
    jobs_dir: Path = Field(description="below it, each job has a directory")
    run_dir: Path = Field(description="pid file, lock and sockets of this engine; its own, mode 0700")
    log: Log
    engine: Engine = Field(default_factory=Engine)
    pass_environment: tuple[str, ...] = Field(
        ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"),
        description="variables of the engine's own environment that jobs see",
    )
    rules_dirs: tuple[Path, ...] = Field((), description="directories whose *.py files register rules")
    systems_dirs: tuple[Path, ...] = Field((), description="directories whose *.py files register execution systems")
    inputs: InputSources = Field(default_factory=InputSources)
    execution_systems: dict[str, SystemEntry] = Field(min_length=1)
    routes: tuple[RouteEntry, ...] = Field(min_length=1)
    notification: Notification = Field(default_factory=Notification)
