"""A job's row in the embedded database: how a document becomes one, how it changes, and how it becomes a document again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import ENGINE_FIELDS, SCHEMA_VERSION, Job
from execution_engine.jobs.lease import ODD_TOKEN, crashes_of, token_of
from execution_engine.jobs.status import Status
from execution_engine.store import changes, extended_json
from execution_engine.store.job_store import BrokenJob, Change, Document

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_LEASE = "lease_owner, lease_token, lease_until, crashes, crash"
COLUMNS = f"seq, id, status, due_at, created, request, {_LEASE}, priority, not_before, engine, app"
SAVE = """
UPDATE jobs SET status = ?, due_at = ?, request = ?, lease_owner = ?, lease_token = ?, lease_until = ?, crashes = ?, crash = ?,
    priority = ?, lane = ?, system = ?, engine = ? WHERE seq = ?
"""
INSERT = """
INSERT INTO jobs (id, text_id, status, due_at, created, request, lease_owner, lease_token, lease_until, crashes, crash,
    priority, not_before, lane, system, owner, project, engine, app)
VALUES (:id, :text_id, :status, :due_at, :created, :request, :lease_owner, :lease_token, :lease_until, :crashes, :crash,
    :priority, :not_before, :lane, :system, :owner, :project, :engine, :app)
"""
INSERT_INPUTS = "INSERT INTO inputs SELECT seq, :inputs FROM jobs WHERE id = :id"
INSERT_TAG = "INSERT OR IGNORE INTO tags SELECT :tag, created, seq FROM jobs WHERE id = :id"
INPUTS = "(SELECT text FROM inputs WHERE inputs.seq = jobs.seq)"


class Misfit(Exception):
    """An engine's field, written by an app, is not what it must be."""


def milliseconds(moment: datetime | None) -> int | None:
    """Milliseconds since the epoch."""
    return None if moment is None else ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def moment_of(stored: int | None) -> datetime | None:
    """The date of milliseconds since the epoch; None for what Python cannot hold."""
    try:
        return None if stored is None else _EPOCH + timedelta(milliseconds=stored)
    except OverflowError:
        return None


def value_of(text: str) -> Any:
    """The value of a column; the text itself where somebody has made it unreadable: one bad row must not stop the others."""
    try:
        return extended_json.read(text)
    except extended_json.UNREADABLE:
        return text


def _number(value: Any) -> Any:
    """The number of a column; None for anything else: SQLite keeps text also where a column is for numbers."""
    return value if isinstance(value, int | float) else None


def _fields(held: str | Document, broken: str) -> Document:
    """The fields of a column.  Unreadable text becomes the field `broken`, where it is none that a job can have."""
    found = held if isinstance(held, dict) else value_of(held)
    return found if isinstance(found, dict) else {broken: [{"unreadable": str(held)}]}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Row:
    """One job's row, as selected by COLUMNS."""

    id: str
    status: str | None
    due_at: int | None
    created: int
    request: str | None
    lease_owner: str | None
    lease_token: int
    lease_until: int | None
    crashes: int
    crash: str
    priority: float
    not_before: int | None

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.seq, self.id, self.status, due_at, created, self.request = values[:6]
        self.lease_owner, lease_token, lease_until, crashes, self.crash = values[6:11]
        priority, not_before, engine, app = values[11:]
        self.due_at, self.lease_until, self.not_before = _number(due_at), _number(lease_until), _number(not_before)
        self.created, self.priority = _number(created) or 0, _number(priority) or 0
        self.engine: Document = _fields(engine, broken="execution")
        self.lease_token = token_of(self.engine.get("lease", {"token": lease_token}))
        self.crashes = crashes_of({"crashes": crashes})
        self._app: str | Document = app

    @cached_property
    def app(self) -> Document:
        """The app's fields, which few writes need."""
        return _fields(self._app, broken="command")

    # --- as a document

    def document(self, inputs: str | None = None) -> Document:
        """The whole document; `inputs`: the text of that field, where it is wanted."""
        result: Document = {"_id": value_of(self.id)}
        if self.status is not None:
            result["status"] = self.status
        result.update(self.app)
        if inputs is not None:
            result["inputs"] = value_of(inputs)
        result.update(self.engine)
        times = self.engine.get("times", {})
        if isinstance(times, dict):
            result["times"] = {"created": moment_of(self.created), **times}
        if self.request is not None:
            result["request"] = self.request
        if self.due_at is not None or self.lease_token:
            result["due_at"] = moment_of(self.due_at)
        if "lease" not in self.engine and (self.lease_token or self.lease_owner):
            result["lease"] = {
                "owner": self.lease_owner,
                "token": self.lease_token,
                "until": moment_of(self.lease_until),
                "crashes": self.crashes,
                "crash": self.crash,
            }
        return result

    def is_as_known(self, job: Job | BrokenJob) -> bool:
        """Whether the job still has the status and the lease that a writer knew."""
        lease = job.lease
        if (self.status, self.lease_token) != (job.status, lease.token):
            return False
        return lease.token == ODD_TOKEN or self.lease_owner == lease.owner

    # --- what happens to it

    def lease(self, owner: str, until: datetime) -> None:
        """`owner` holds the job from now on.  Raises Misfit for one that no later write would find."""
        if extended_json.id_text(value_of(self.id)) != self.id:
            raise Misfit(f"its id cannot be read: {self.id!r}")
        if self.engine.get("schema") is None:
            for name in ("history", "times"):
                self.engine.pop(name, None)
            self.engine["schema"] = SCHEMA_VERSION
        self.engine.pop("lease", None)
        self.engine.pop("due_at", None)
        self.lease_owner, self.lease_token = owner, max(self.lease_token, 0) + 1
        self.lease_until = self.due_at = milliseconds(until)

    def become(self, status: Status, at: datetime, by: str, why: str = "") -> None:
        """The transition, with its entry in the history.  Raises Misfit."""
        history = self.engine.get("history", [])
        if not isinstance(history, list):
            raise Misfit(f"an engine's field is not what it must be: history is {_shown(history)}, not a list")
        self.status = str(status)
        self.engine["history"] = changes.bounded([*history, changes.entry(status, at, by, why, after=history)])

    def unbecome(self, change: Change) -> None:
        """Takes back the transition of the claim."""
        self.status = str(change.status)
        self.engine["history"] = changes.undone(change)

    def change(self, change: Change, at: datetime, by: str) -> None:
        """Makes the change.  Raises Misfit, and is unusable then."""
        for name, value in changes.fields_of(change).items():
            self._set(name, value)
        if change.undo:
            self.unbecome(change)
        elif change.status != change.job.status:
            self.become(change.status, at, by, change.why)
        if change.answered is not None and self.request == change.answered:
            self.request = None
        if not change.keep_lease:
            self.crashes = change.job.lease.crashes if change.crash is not None else 0  # as it was seen: safe to repeat
            self.free(change.due_at, change.crash)

    def free(self, due_at: datetime | None, crash: str | None) -> None:
        """Ends the lease.  `crash`: what went wrong, if something did."""
        self.engine.pop("lease", None)
        self.engine.pop("due_at", None)
        self.due_at = milliseconds(due_at)
        self.lease_owner = self.lease_until = None
        if crash is not None:
            self.crashes, self.crash = self.crashes + 1, crash

    def condemn(self, at: datetime, by: str, message: str) -> tuple[Any, Document]:
        """Ends a job that no ordinary write can change; returns what is to be told of it once that is stored."""
        fields = changes.condemned(self.document(), at, by, message)
        told = value_of(self.id), dict(fields)
        self.status = fields.pop("status", self.status)
        self.lease_token, self.crashes, self.crash = fields.pop("lease")["token"], 0, ""
        self.due_at = self.lease_owner = self.lease_until = fields.pop("due_at")
        self.request = fields.pop("request")
        for name in ("lease", "due_at"):
            self.engine.pop(name, None)
        self.engine.update(fields)
        return told

    def saved(self) -> tuple[Any, ...]:
        """The parameters of SAVE."""
        lane, system = _place(self.engine)
        engine = extended_json.write(self.engine)
        lease = (self.lease_owner, self.lease_token, self.lease_until, self.crashes, self.crash)
        return (self.status, self.due_at, self.request, *lease, self.priority, lane, system, engine, self.seq)

    def _set(self, name: str, value: Any) -> None:
        top, _, rest = name.partition(".")
        if not rest:
            self.engine[top] = value
            if top == "priority":
                self.priority = changes.priority_of(self.engine)
            return
        whole = self.engine.setdefault(top, {})
        if not isinstance(whole, dict):
            raise Misfit(f"an engine's field is not what it must be: {top} is {_shown(whole)}, not a document")
        whole[rest] = value


def followed_of(values: tuple[Any, ...]) -> Followed:
    """The job, in brief, of a row selected by FOLLOWED."""
    job_id, status, lease_until, texts = values
    fields = value_of(texts) if texts is not None else (None, None, None, 0)
    return changes.followed_of((value_of(job_id), status, *fields, moment_of(_number(lease_until))))


def new_row(document: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The parameters of INSERT for a new document.  Raises StoreError when it cannot be stored."""
    held = extended_json.as_bson_holds_it(dict(document))
    job_id = held.pop("_id")
    lease = _valid_lease(held)
    lane, system = _place(held)
    return {
        "id": extended_json.id_text(job_id),
        "text_id": str(job_id),
        "priority": changes.priority_of(held),
        "not_before": milliseconds(_date(held.get("not_before"))),
        "created": milliseconds(_pop_created(held) or now),
        "lane": lane,
        "system": system,
        "owner": held.get("owner") if isinstance(held.get("owner"), str) else "default",
        "project": held.get("project") if isinstance(held.get("project"), str) else "default",
        "status": _pop(held, "status", str),
        "due_at": milliseconds(_pop(held, "due_at", datetime)),
        "request": _pop(held, "request", str),
        **lease,
        "tags": [tag for tag in changes.tags_of(held) if isinstance(tag, str)],
        "inputs": extended_json.write_any(held.pop("inputs")) if "inputs" in held else None,
        "engine": extended_json.write_any(_pick(held, ENGINE_FIELDS)),
        "app": extended_json.write_any(_pick(held, held.keys() - ENGINE_FIELDS)),
    }


def _pick(document: Document, names: Collection[str]) -> Document:
    return {name: value for name, value in document.items() if name in names}


def _pop(document: Document, name: str, kind: type) -> Any:
    """Takes a field out of the document if it is of this kind; a None is none."""
    if document.get(name) is None:
        document.pop(name, None)
        return None
    return document.pop(name) if isinstance(document[name], kind) else None


def _pop_created(document: Document) -> datetime | None:
    times = document.get("times")
    return _pop(times, "created", datetime) if isinstance(times, dict) else None


def _valid_lease(document: Document) -> dict[str, Any]:
    """The columns of a document's lease, which is taken out unless it is none."""
    token = token_of(document.get("lease"))
    lease = (document.pop("lease", None) if token != ODD_TOKEN else None) or {}
    return {
        "lease_owner": lease.get("owner") if isinstance(lease.get("owner"), str) else None,
        "lease_token": max(token, 0),
        "lease_until": milliseconds(_date(lease.get("until"))),
        "crashes": crashes_of(lease),
        "crash": str(lease.get("crash") or ""),
    }


def _date(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _place(document: Document) -> tuple[str | None, str | None]:
    """The lane and the system of a document, for the queries."""
    execution = document.get("execution")
    if not isinstance(execution, dict):
        return None, None
    lane, system = execution.get("lane"), execution.get("system")
    return lane if isinstance(lane, str) else None, system if isinstance(system, str) else None
