"""What the configuration may hold: one model for each section, each key with its meaning, default and limits.

Paths and `sqlite:///` URLs are made absolute when a model is validated with the context `{"directory": Path}`, as `load` does.
"""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationInfo, model_validator

from execution_engine.config.notification import Notification
from execution_engine.config.places import Places
from execution_engine.config.values import AnchoredPath, Duration, Name, PollInterval, Section, Size, anchored, completed

_SQLITE = "sqlite:///"
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_SOCKET_PATH_ROOM = 100
"""Bytes that a run_dir may have: a unix socket's path ends at 107, and the names of the sockets want the rest."""


def _database_url(url: str, info: ValidationInfo) -> str:
    """The URL with an absolute path, if it is SQLite's.  Its text is in no message: it may hold a password."""
    scheme = urlsplit(url).scheme
    if scheme in ("mongodb", "mongodb+srv"):
        return url
    path = url.removeprefix(_SQLITE)
    if path == url:
        raise ValueError("expected a URL that begins with sqlite:///, mongodb:// or mongodb+srv://")
    if path in ("", ":memory:"):
        raise ValueError("expected the path of a file after sqlite:/// (several processes use it: it cannot be in memory)")
    return f"{_SQLITE}{anchored(Path(path), info)}"


def _database_in(url: Any) -> str:
    """The database in the path of a MongoDB URL; none for `admin`, which is where users are known, not where jobs live."""
    if not isinstance(url, str) or not url.startswith("mongodb"):
        return ""
    path = url.partition("?")[0].partition("://")[2].partition("/")[2]
    name = unquote(path).partition(".")[0]
    return "" if name == "admin" else name


def _socket_room(path: Path) -> Path:
    if len(os.fsencode(path)) > _SOCKET_PATH_ROOM:
        raise ValueError(f"{path} is too long: sockets are made in it; expected at most {_SOCKET_PATH_ROOM} bytes")
    return path


def _identity(name: str) -> str:
    if not _IDENTITY.fullmatch(name):
        raise ValueError("expected at most 100 letters, digits, dots, - and _, of which a letter or a digit is the first")
    return name


def _known_user(name: str) -> str:
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ValueError(f"there is no user {name} on this machine") from None
    return name


class Database(Section):
    """Where the jobs live."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        description="`sqlite:///PATH` (embedded; an absolute path has four slashes) or `mongodb://…`"
    )
    url_file: AnchoredPath | None = Field(
        None, description="instead of `url`: a file that holds the URL, for one with a password"
    )
    name: str = Field(
        "execd", min_length=1, description="the MongoDB database; default: the one in the URL's path, if it has one"
    )
    timeout: Duration = Field(5.0, gt=0, description="how long one operation may take before the database counts as out of reach")

    @model_validator(mode="before")
    @classmethod
    def _named_by_url(cls, given: Any) -> Any:
        if isinstance(given, dict) and "name" not in given and (named := _database_in(given.get("url"))):
            return {**given, "name": named}
        return given

    @model_validator(mode="after")
    def _one_name(self) -> Database:
        named = _database_in(self.url)
        if named not in ("", self.name):
            raise ValueError(
                f"name is {self.name!r}, and the path of url names the database {named!r}: leave one out (if that is where "
                f"the user is known, write /?authSource={named})"
            )
        return self

    @property
    def file(self) -> Path | None:
        """The embedded database; None for a server's."""
        return Path(self.url.removeprefix(_SQLITE)) if self.url.startswith(_SQLITE) else None


_STATUS_INTERVAL = PollInterval(min=0.5, max=30.0)
_RETRY_DELAY = PollInterval(min=1.0, max=60.0)


class Actors(Section):
    """Processes at a time."""

    building: int = Field(1, ge=1, le=1000, description="processes that build jobs")
    submit: int = Field(1, ge=1, le=1000, description="processes that submit jobs, for each execution system")
    notification: int = Field(1, ge=1, le=1000, description="processes that tell owners")


class Engine(Section):
    """How the engine works.  The defaults suit most sites."""

    poll_interval: PollInterval = Field(
        PollInterval(), description="how often the database is asked for due jobs: `min` while there is work, growing to `max`"
    )
    lease: Duration = Field(60.0, ge=1, description="how long a claim holds unless its actor renews it")
    actors: Actors = Field(default_factory=Actors, description="processes at a time")
    batch: int = Field(200, ge=1, le=10_000, description="jobs that an actor claims at once")
    actor_deadline: Duration = Field(60.0, gt=0, description="an actor without progress for so long is killed")
    actor_linger: Duration = Field(2.0, ge=0, description="an actor without work ends after so long")
    actor_lifetime: Duration = Field(300.0, gt=0, description="an actor ends after so long, work or not (leaks)")
    crashes: int = Field(3, ge=1, description="a job whose actor died so often ends in error")
    status_interval: Annotated[PollInterval, completed(_STATUS_INTERVAL)] = Field(
        _STATUS_INTERVAL, description="how often a system is asked about its jobs"
    )
    grace: Duration = Field(30.0, ge=0, description="how long a job may be unknown to its system before it ends in error")
    kill_delay: Duration = Field(10.0, ge=0, description="from the request to end (SIGTERM) to the end (SIGKILL)")
    retry_delay: Annotated[PollInterval, completed(_RETRY_DELAY)] = Field(
        _RETRY_DELAY, description="before a failed submission is tried again; doubles"
    )
    identity: Annotated[str, AfterValidator(_identity)] | None = Field(
        None,
        description="what this machine is called in the lanes of its Local jobs, instead of its host name with a mark: for "
        "a host whose name and machine id change (a container), or to take over the jobs of one that is gone",
    )
    keep_events: Duration = Field(
        30 * 86400.0, gt=0, description="how long the database keeps what the engine did by itself; see `execd events`"
    )


class Log(Section):
    """Where the log goes."""

    file: AnchoredPath = Field(description="the log file; written by the master alone")
    format: Literal["human", "json"] = Field("human", description="lines for people, or JSON")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is less important is left out")
    max_size: Size = Field(10 << 20, ge=10_000, description="the file is rotated when it is larger")
    keep: int = Field(5, ge=1, le=10_000, description="rotated files that are kept")


class InputSources(Section):
    """What `inputs: {name: {source: …}}` of a job may name.  Nothing by default: the daemon can read more than an app should."""

    paths: tuple[AnchoredPath, ...] = Field((), description="directories below which files may be copied")
    urls: bool = Field(False, description="whether http and https URLs may be fetched")
    max_size: Size = Field(1 << 30, description="of one fetched input")


class SystemEntry(Section):
    """One execution system: its class, and whatever options that class takes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    class_: str = Field(alias="class", description="name of the class: Local, or one of a plug-in")

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `class`, as the system's `Options` model will check them."""
        return dict(self.model_extra or {})


class RuleEntry(Section):
    """A rule as a route uses it."""

    name: str = Field(description="name of the rule")
    parameters: dict[str, Any] = Field(default_factory=dict, description="values for the rule's parameters, by name")


def _rule(given: Any) -> Any:
    """Reads `name` and `{name: {parameter: value}}`."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, RuleEntry):
        return given
    if not isinstance(given, dict):
        raise ValueError("expected the name of a rule, alone or with its parameters: {memory_at_least: {amount: 8G}}")
    if len(given) != 1:
        raise ValueError(f"expected one rule for each entry of the list, found {len(given)}: {', '.join(given)}")
    ((name, parameters),) = given.items()
    if not isinstance(parameters, dict | None):
        raise ValueError(f"expected the parameters of {name} by name, for example {{memory_at_least: {{amount: 8G}}}}")
    return {"name": name, "parameters": parameters or {}}


class RouteEntry(Section):
    """One route: it takes a job when all of its rules say yes.  The first route that takes a job has it."""

    name: str = Field(min_length=1, description="what it is called in the log and by `execd explain`")
    rules: tuple[Annotated[RuleEntry, BeforeValidator(_rule)], ...] = Field(
        (),
        description="names of rules, each alone or with its parameters: `{memory_at_least: {amount: 8G}}`; none: takes every job",
    )
    execution_system: str = Field(description="name of the execution system that gets the jobs")


class Config(Section):
    """The whole configuration.  Relative paths are relative to the file's directory."""

    file: Path = Field(exclude=True, description="where it was read from")
    user: Annotated[str, AfterValidator(_known_user)] | None = Field(
        None, description="whom root becomes before it works with anything of this engine's; default: who starts it"
    )
    database: Database = Field(description="where the jobs live")
    jobs_dir: AnchoredPath = Field(description="below it, each job has a directory")
    run_dir: Annotated[AnchoredPath, AfterValidator(_socket_room)] = Field(
        description="pid file, lock and sockets of this engine; its own, mode 0700"
    )
    log: Log = Field(description="where the log goes")
    engine: Engine = Field(default_factory=Engine, description="how the engine works")
    pass_environment: tuple[str, ...] = Field(
        ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"),
        description="variables of the engine's own environment that jobs see",
    )
    rules_dirs: tuple[AnchoredPath, ...] = Field((), description="directories whose *.py files register rules")
    systems_dirs: tuple[AnchoredPath, ...] = Field((), description="directories whose *.py files register execution systems")
    app_fields: tuple[str, ...] = Field(
        (),
        description="top-level fields of jobs that are the apps' own, beside those that begin with `x-`; also with `*` and `?`",
    )
    inputs: InputSources = Field(default_factory=InputSources, description="what a job's inputs may be fetched from")
    execution_systems: dict[Name, SystemEntry] = Field(min_length=1, description="by name: where jobs run")
    routes: tuple[RouteEntry, ...] = Field(min_length=1, description="asked in this order which of them takes a job")
    notification: Notification = Field(default_factory=Notification, description="who is told when a job ended")

    _places: Places | None = PrivateAttr(None)
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What looks like a mistake but does no harm, a line each."""
        return self._warnings

    @property
    def places(self) -> Places:
        """The line of each key in the file; none is known of a configuration that was not read from one."""
        return self._places or Places(self.file, {})

    def place(self, *keys: str | int) -> str:
        """`FILE:LINE` of a key, for example `place("routes", 0, "name")`; of the nearest one above it that is in the file."""
        return self.places.of(keys)

    def job_environment(self) -> dict[str, str]:
        """What of this process' environment jobs see."""
        return {name: os.environ[name] for name in self.pass_environment if name in os.environ}
