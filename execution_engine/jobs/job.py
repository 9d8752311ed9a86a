"""The job document as the engine sees it: a frozen, validated value.  The name of every field is here and nowhere else."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
)

from execution_engine.errors import InvalidJob
from execution_engine.jobs.followed import is_directory
from execution_engine.jobs.lease import Date, Lease, Value, as_lease
from execution_engine.jobs.problems import problems_of
from execution_engine.jobs.status import Status
from execution_engine.quantities import parse_duration, parse_size

SCHEMA_VERSION = 1

NOT_YET = ("service", "parameters", "key", "after", "after_policy", "array", "retry")
"""Fields of the document that this version does not serve.  A job with one is refused: to ignore it would run it wrongly."""

ENGINE_FIELDS = frozenset(
    {"schema", "dir", "lease", "due_at", "attempt", "attempts", "execution", "times", "exit", "usage", "results", "results_cut"}
    | {"error", "requested", "refused", "history", "notified"}
)
"""Fields that the engine writes, beside `status`.  All others are the app's, also those that this version does not know."""

_UMASK = re.compile(r"0{1,2}[0-7]{2}")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")


def _whole_number(value: Any) -> Any:
    """Drivers of some languages store every number as a double: 2.0 is 2, but True, "2" and 2.5 are not numbers of things."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("expected a whole number")
    if not abs(value) < 1 << 63:
        raise ValueError("expected a whole number of at most 64 bits")
    return int(value)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def _absolute(path: str) -> str:
    if not is_directory(path):
        raise ValueError("expected an absolute path")
    return path


def _not_an_empty_list(command: tuple[str, ...] | str) -> tuple[str, ...] | str:
    if isinstance(command, tuple) and not command:
        raise ValueError("expected a program and its arguments")
    return command


def _quantity(parse: Any) -> Any:
    def validate(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError("expected a number or a string such as 512M or 1h30m")
        return parse(value)

    return validate


def _umask(text: str) -> str:
    if text and not _UMASK.fullmatch(text):
        raise ValueError('expected octal digits in quotes that take nothing from the owner, such as "022", "027" or "077"')
    return text


Umask = Annotated[str, Strict(), AfterValidator(_umask)]
"""In a document or a configuration: octal digits in a string, since a number would be read in one way or the other."""
SafeText = Annotated[str, Strict(), AfterValidator(_no_nul)]
WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Directory = Annotated[str, Strict(), AfterValidator(_absolute)]
Size = Annotated[int, BeforeValidator(_quantity(parse_size))]
Duration = Annotated[float, BeforeValidator(_quantity(parse_duration))]


class Resources(BaseModel):
    """What a job asks of its execution system, and is held to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: Annotated[WholeNumber, Field(ge=1, lt=1 << 31)] = Field(1, description="processor cores; on Local, slots")
    memory: Size = Field(0, description="bytes for all processes together; 0: not limited")
    walltime: Duration = Field(0.0, description="seconds of real time from the start; 0: not limited")
    gpus: Annotated[WholeNumber, Field(ge=0, lt=1 << 31)] = Field(0, description="graphics processors")
    native: SafeText = Field("", description="options in the execution system's own words")


class Source(BaseModel):
    """An input that is fetched instead of given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SafeText = Field(description="an absolute path that the administrator allows, or a URL")


class Asked(Value):
    """A rule that was asked, and its answer."""

    route: str
    rule: str
    answer: bool
    error: str | None = None


class Execution(Value):
    """Where the job runs, and why there."""

    route: str | None = Field(None, description="the name of the route that took it")
    system: str | None = Field(None, description="the name of the execution system")
    lane: str | None = Field(None, description="the queue of work it belongs to: the system, and its host if it is bound to one")
    host: str | None = Field(None, description="the host of the engine that built it")
    name: str | None = Field(None, description="its name in the system, unique for job and attempt")
    job_no: str | None = Field(None, description="the native id that the system gave")
    why: tuple[Asked, ...] = Field((), description="the rules that were asked, in order, and their answers")


class Times(Value):
    """When what happened, in UTC."""

    created: Date | None = None
    built: Date | None = None
    submitted: Date | None = None
    started: Date | None = None
    ended: Date | None = None
    notified: Date | None = None


class Exit(Value):
    """How the command ended."""

    code: int | None = Field(None, description="exit status as a shell gives it; null if none is known")
    signal: str | None = Field(None, description="name of the signal that ended it, for example SIGTERM")
    reason: str | None = Field(None, description="one word for what ended the job; see the list of reasons")


class Usage(Value):
    """What the job used."""

    wall: float | None = Field(None, description="seconds of real time")
    cpu: float | None = Field(None, description="seconds of processor time, children included")
    memory: int | None = Field(None, description="bytes, peak resident size")
    host: str | None = Field(None, description="where it ran")


class Result(Value):
    """A file that one of the job's `outputs` patterns matched."""

    path: str
    size: int


class JobError(Value):
    """The first cause of a job's failure.  Later ones are appended to `details`."""

    kind: str
    message: str
    details: Any = None


class HistoryEntry(Value):
    """One transition."""

    status: str
    at: Date
    by: str = ""
    why: str = ""


class Requested(Value):
    """A request that the engine took up or refused."""

    what: str
    at: Date
    why: str = ""
    sent: bool = Field(False, description="the system was told")


class Delivery(Value):
    """How the owner's notification by one target went."""

    at: Date | None = Field(None, description="when it was delivered")
    attempts: int = Field(0, description="how often it was tried")
    error: str | None = Field(None, description="why the last try failed, or was put off")
    given_up: bool = Field(False, description="nobody tries any more; `execd notify` does again")
    since: Date | None = Field(None, description="when somebody asked for it again, by hand")


class Attempt(Value):
    """How an attempt ended after which the job was tried again."""

    attempt: int = Field(description="its number; its files are in `.execd/attempt-<number>` of the job's directory")
    status: str
    exit: Exit | None = None
    usage: Usage | None = None
    error: JobError | None = None
    results: tuple[Result, ...] = ()
    times: Times = Times()
    execution: Execution = Execution()
    requested: Requested | None = None
    notified: dict[str, Delivery] = Field(default_factory=dict)


Inputs = dict[SafeText, str | bytes | Source]
Command = Annotated[tuple[SafeText, ...] | SafeText, AfterValidator(_not_an_empty_list)]


class Job(Value):
    """A job.  `from_document` is the one door in."""

    id: Any = Field(alias="_id", description="any value; by default the driver's ObjectId")
    status: Status = Field(description="`init` (a draft) or `to be built` (run it); then the engine's")

    command: Command = Field(
        description="a list of strings is an argument vector, run as it is, no shell; a string is a POSIX shell script"
    )
    name: SafeText = Field("", description="for people; need not be unique")
    project: SafeText = Field("default", description="for routing, directories, notification")
    owner: SafeText = Field("default", description="for routing, notification")
    inputs: Inputs = Field(
        default_factory=dict, description="file name → content, or `{source: path or URL}`; placed in the job's directory"
    )
    outputs: tuple[SafeText, ...] = Field((), description="glob patterns of the results to record at the end")
    env: dict[SafeText, SafeText] = Field(default_factory=dict, description="added to the job's environment")
    resources: Resources = Field(Resources(), description="asked of the execution system, enforced by it")
    umask: Umask = Field("", description='of the job and its directory, as "027"; not wider than its execution system allows')
    shell: tuple[SafeText, ...] | SafeText = Field(
        (),
        description="program, or list of program and arguments, that runs a command that is a string, whatever its #! line",
    )
    priority: WholeNumber = Field(0, description="higher first")
    not_before: Date | None = Field(None, description="do not start earlier")
    notify: Annotated[bool, Strict()] | tuple[SafeText, ...] = Field(
        True, description="who is told at the end: false nobody, true the configuration's targets, or a list of targets"
    )
    tags: tuple[SafeText, ...] = Field((), description="for search and routing")
    request: Any = Field(None, description="what is asked of the engine: kill, hold, release, suspend, resume or retry")

    schema_version: int | None = Field(None, alias="schema", description="version of this document; set by the engine")
    dir: Directory | None = Field(None, description="the job's directory (absolute)")
    lease: Annotated[Lease, BeforeValidator(as_lease)] = Field(Lease(), description="who works on the job")
    due_at: Date | None = Field(None, description="when the engine looks at it next; null: now, or never if it ended")
    attempt: Annotated[WholeNumber, Field(ge=1, lt=1 << 31)] = Field(1, description="number of this attempt")
    attempts: tuple[Attempt, ...] = Field((), description="how the attempts before this one ended; the latest 50")
    execution: Execution = Field(Execution(), description="where it runs, and why there")
    times: Times = Field(Times(), description="when what happened, in UTC")
    exit: Exit | None = Field(None, description="how the command ended")
    usage: Usage | None = Field(None, description="what it used")
    results: tuple[Result, ...] = Field((), description="what `outputs` matched")
    results_cut: bool | None = Field(None, description="there are more results than are listed")
    error: JobError | None = Field(None, description="the first cause of a failure")
    requested: Requested | None = Field(None, description="the request that the engine is carrying out, or did last")
    refused: Requested | None = Field(None, description="the last request that made no sense, and why")
    history: tuple[HistoryEntry, ...] = Field((), description="the transitions; the first and the latest are kept")
    notified: dict[str, Delivery] = Field(default_factory=dict, description="per target: when, or how often it failed and why")

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The job that a document describes.  Raises InvalidJob, which names each bad field."""
        problems = [
            f"{field}: not served by this version of execd; remove it" for field in NOT_YET if document.get(field) is not None
        ]
        try:
            job = cls.model_validate(document)
        except ValidationError as error:
            raise InvalidJob(problems + problems_of(error, {"resources": Resources.model_fields})) from None
        if problems:
            raise InvalidJob(problems)
        return job

    @property
    def text_id(self) -> str:
        """The id for people: on the command line, in the log, in messages."""
        return str(self.id)

    @property
    def safe_id(self) -> str:
        """The id as a file name or a name in a DRM: unique, short, of safe characters."""
        return safe_id(self.id)

    @property
    def directory_name(self) -> str:
        """The project as a directory name."""
        return safe_name(self.project)

    @property
    def kill_sent(self) -> bool:
        """Whether its system was told to end it."""
        return self.requested is not None and self.requested.what == "kill" and self.requested.sent

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.name or self.text_id


def safe_id(job_id: Any) -> str:
    """A file name for an id: the id itself where it is harmless, else a digest of its type and value."""
    text = str(job_id)
    if type(job_id).__name__ == "ObjectId":
        return text
    if isinstance(job_id, str) and _SAFE_ID.fullmatch(text) and not re.fullmatch(r"[0-9a-fx][0-9a-f]{23}", text):
        return text
    return "x" + hashlib.sha256(f"{type(job_id).__name__}:{text}".encode("utf-8", "surrogateescape")).hexdigest()[:23]


def safe_name(text: str) -> str:
    """A directory name for a text of people: itself where it is harmless, else its harmless part and a digest."""
    if _SAFE_ID.fullmatch(text):
        return text
    harmless = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:24]
    return f"{harmless or 'project'}.{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"
