"""What a claim, a change or a release makes of a job: the rules that hold for every database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from execution_engine import events
from execution_engine.errors import InvalidJob, NoSuchJob
from execution_engine.jobs.followed import Followed, is_directory
from execution_engine.jobs.job import ENGINE_FIELDS, Job
from execution_engine.jobs.lease import Lease, token_of
from execution_engine.jobs.recovery import BEGUN, RECOVERY, Due
from execution_engine.jobs.status import FINAL, ON_SYSTEM, RETRIES, RETRY, Status, may_follow
from execution_engine.store.job_store import BrokenJob, Change, Cores, Document

FIRST, LATEST = 10, 40
"""Entries of the history that are kept: so many of the first, so many of the latest."""

MOST_CORES = 1 << 31
"""More than that are not counted: sums of them must not leave the range of a database's numbers."""

_STORES_OWN = frozenset({"_id", "status", "lease", "due_at", "history", "request"})


# --- documents and jobs


def job_of(document: Document) -> Job | BrokenJob:
    """The job of a document whose status is one."""
    try:
        return Job.from_document(document)
    except InvalidJob as error:
        if document["status"] in ON_SYSTEM and (job := job_on_system(document)) is not None:
            return job
        lease = Lease.of(document.get("lease"))
        return BrokenJob(document["_id"], Status(document["status"]), lease, tuple(error.problems), document)


def jobs_of(documents: Iterable[Document]) -> list[Job | BrokenJob]:
    """The jobs of documents; those whose status is none (an app's doing) are left out."""
    return [job_of(document) for document in documents if known_status(document.get("status")) is not None]


def job_on_system(document: Document) -> Job | None:
    """The job of a document that a system has: without the app's fields if the app has broken these in the meantime, and without
    those of the engine's that are none, so that the job is still followed.  None if there is nothing to go by.
    """
    try:
        return Job.from_document(document)
    except InvalidJob:
        kept = {name: value for name, value in document.items() if name in ENGINE_FIELDS or name in ("_id", "status", "request")}
    engines: Document = {**kept, "command": ""}
    while True:
        try:
            return Job.model_validate(engines)
        except ValidationError as error:
            if not _without(engines, {entry["loc"][:2] for entry in error.errors(include_url=False, include_input=False)}):
                return None


def _without(document: Document, places: Iterable[tuple[int | str, ...]]) -> bool:
    """Takes what is at these places out of a document, as far as it is the engine's; whether there was something."""
    found = False
    for top, *rest in places:
        part = document.get(str(top))
        if top not in ENGINE_FIELDS or part is None:
            continue
        found = True
        if rest and isinstance(part, dict) and rest[0] in part:
            document[str(top)] = {name: value for name, value in part.items() if name != rest[0]}
        else:
            del document[str(top)]
    return found


def followed_of(values: Iterable[Any]) -> Followed:
    """A job that a system has, in brief, of the values for the fields of Followed; one of a wrong type is as good as none."""
    job_id, status, *texts, attempt, lease_until = values
    job_no, name, directory = (text if isinstance(text, str) else "" for text in texts)
    if not is_directory(directory):
        directory = ""
    number = 1 if attempt is None else int(_number(attempt, 0))
    until = lease_until if isinstance(lease_until, datetime) else None
    return Followed(job_id, Status(status), job_no, name, directory, number, until)


def known_status(value: Any) -> Status | None:
    """The status that a value is, if it is one."""
    try:
        return Status(value)
    except ValueError:
        return None


def coming_status(status: Any, request: Any) -> Status | None:
    """The status that a job has, or is about to have because it is to be retried; None if it is no status."""
    known = known_status(status)
    return Status.TO_BE_BUILT if known in RETRIES and request == RETRY else known


def created(document: Document) -> datetime | None:
    """When a document was made, as far as it tells."""
    times = document.get("times")
    moment = times.get("created") if isinstance(times, dict) else None
    if isinstance(moment, datetime):
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    made = getattr(document.get("_id"), "generation_time", None)
    return made if isinstance(made, datetime) else None


def whole(names: Collection[str]) -> list[str]:
    """The names of fields without those of parts of another one."""
    return sorted(name for name in names if not any(name.startswith(f"{other}.") for other in names))


def not_before(documents: Iterable[Document], since: datetime | None) -> Iterator[Document]:
    """The documents made at or after `since`, as far as they tell."""
    return (document for document in documents if since is None or (made := created(document)) is None or made >= since)


# --- which jobs a claim takes


class Candidate(NamedTuple):
    """A due job that a claim may take.  `handle`: what the database needs to find it again."""

    handle: Any
    priority: float
    created: float
    """seconds or milliseconds, or an order of insertion: whatever grows"""
    crashes: int
    cores: int = 1
    begun: bool = False
    """an actor died with it: it may be with its system already, so it comes before all new ones"""


def choose(candidates: Iterable[Candidate], limit: int, cores: Cores | None) -> list[Candidate]:
    """The candidates that one claim takes, in order: by priority, then age, those that were begun first; one with a crash
    behind it only alone."""
    ordered = sorted(candidates, key=lambda candidate: (not candidate.begun, -candidate.priority, candidate.created))
    if ordered and ordered[0].crashes:
        ordered = ordered[:1]
    chosen: list[Candidate] = []
    for candidate in ordered:
        left = cores and cores.take(candidate.cores)
        if len(chosen) == limit or (cores is not None and left is None):
            break
        if candidate.crashes and chosen:
            continue
        chosen.append(candidate)
        cores = left
    return chosen


def priority_of(document: Document) -> float:
    """The priority, 0 where there is none or no number."""
    return _number(document.get("priority"), 0)


def cores_of(document: Document) -> int:
    """How many cores a job asks for, 1 where it does not say or says nonsense."""
    resources = document.get("resources")
    return int(min(_number(resources.get("cores"), 1), MOST_CORES)) if isinstance(resources, dict) else 1


def tags_of(document: Document) -> list[Any]:
    """The tags of a document."""
    tags = document.get("tags")
    return tags if isinstance(tags, list) else []


def _number(value: Any, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1 << 63:
        return default
    return value


# --- what is written


def entry(status: Status, at: datetime, by: str, why: str = "", after: Sequence[Any] = ()) -> Document:
    """One entry of the history, dated no earlier than the last of those that it comes `after`.

    `at` is when the writer looked at the clock: it may have waited for the database since, while another wrote.
    """
    last = after[-1] if after else None
    before = last.get("at") if isinstance(last, dict) else None
    if isinstance(before, datetime) and before.tzinfo is not None:
        at = max(at, before)
    return {"status": str(status), "at": at, "by": by, "why": why}


def undone(change: Change) -> list[Any]:
    """The history without the entry of the claim that is undone."""
    history = history_of(change.job)
    return history[:-1] if isinstance(change.job, Job) and history and history[-1]["status"] == change.job.status else history


def history_of(job: Job | BrokenJob) -> list[Any]:
    """The entries of a job's history, as they are stored."""
    if isinstance(job, Job):
        return [entry.model_dump() for entry in job.history]
    history = job.document.get("history")
    return history if isinstance(history, list) else []


def bounded(history: Sequence[Any]) -> list[Any]:
    """The history without its middle, if it is too long."""
    if len(history) <= FIRST + LATEST:
        return list(history)
    return [*history[:FIRST], *history[-LATEST:]]


def check(changes: Iterable[Change]) -> None:
    """Raises ValueError for a transition that the table forbids, a field that is not for the caller to set, or a job that is left
    begun without a lease or a time at which it is due: nobody would ever find it again."""
    for change in changes:
        if change.status != change.job.status and not _is_legal(change):
            raise ValueError(f"job {change.job.id}: {change.status} may not follow {change.job.status}")
        if change.status in BEGUN and change.due_at is None and not change.keep_lease:
            raise ValueError(f"job {change.job.id}: {change.status} without a lease needs a time at which it is due")
        if reserved := {name.partition(".")[0] for name in change.fields} & _STORES_OWN:
            raise ValueError(f"job {change.job.id}: {', '.join(sorted(reserved))} cannot be set by `fields`")


def _is_legal(change: Change) -> bool:
    """A final status is a sink: a change leads out of it only as the answer to `retry`, and counts the new attempt."""
    job = change.job
    new_attempt = (
        isinstance(job, Job) and job.request == change.answered == RETRY and change.fields.get("attempt") == job.attempt + 1
    )
    return may_follow(job.status, change.status, new_attempt=new_attempt)


def fields_of(change: Change) -> Document:
    """The fields to set; a dotted name below a field that is set as a whole becomes part of that one."""
    result: Document = {}
    for name, value in change.fields.items():
        top, _, rest = name.partition(".")
        if rest and isinstance(whole := change.fields.get(top), Mapping):
            result[top] = {**result.get(top, whole), rest: value}
        elif name not in result:
            result[name] = value
    return result


def condemned(document: Document, now: datetime, by: str, message: str) -> Document:
    """The fields, each set as a whole, of a document that no ordinary write can change: it ends in `error`.

    One that has ended stays as it is, but is not looked at any more.
    """
    token = max(token_of(document.get("lease")), 0) + 1
    fields = {
        "lease": {"owner": None, "token": token, "until": None, "crashes": 0, "crash": ""},
        "due_at": None,
        "request": None,
    }
    if known_status(document.get("status")) in FINAL:
        return fields
    return {
        **fields,
        "status": str(Status.ERROR),
        "error": {"kind": "invalid job", "message": message, "details": None},
        "exit": {"code": None, "signal": None, "reason": "invalid job"},
        "times": {"created": created(document) or now, "ended": now},
        "history": [entry(Status.ERROR, now, by, "invalid job")],
    }


def tell_condemned(job_id: Any, fields: Document) -> None:
    """The event of that transition, if it is one, once it is stored."""
    if "status" in fields:
        events.emit("job.transition", job=str(job_id), old=None, new=Status.ERROR, why=fields["error"]["message"])


def due_after_release(status: Status, notified: Any, retry_at: datetime) -> datetime | None:
    """When a job is due whose lease was ended for its actor."""
    match RECOVERY[status].due:
        case Due.AT_ONCE:
            return retry_at
        case Due.UNTIL_TOLD:
            return retry_at if notified is None else None
        case Due.WITH_ITS_SYSTEM | Due.NEVER:
            return None


# --- ids for people


def only_one(text: str, exact: Sequence[Any], beginning: Sequence[Any]) -> Any:
    """The one id that a text means: the one whose text it is, else the one that begins so.  Raises NoSuchJob."""
    for found in (exact, beginning):
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(str(job_id) for job_id in found[:5]) + (", …" if len(found) > 5 else "")
            raise NoSuchJob(f"{text!r} could be any of {some}; give more of the id")
    raise NoSuchJob(f"there is no job {text!r}; `execd jobs` lists them")
