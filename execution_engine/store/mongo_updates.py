"""Changes and releases in MongoDB, and the end of documents that cannot be changed otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from execution_engine.jobs.job import ENGINE_FIELDS, Job
from execution_engine.jobs.lease import ODD_TOKEN, crashes_of, token_of
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store import changes, mongo_writes
from execution_engine.store.extended_json import as_bson_holds_it, id_text
from execution_engine.store.job_store import BrokenJob, Change, Document
from execution_engine.store.mongo_queries import NO_INPUTS, exactly, has_exactly, held_by, value_at
from execution_engine.store.mongo_writes import Write

_NOBODY = {"owner": None, "until": None}


class Updates:
    """What is written to jobs, beside claims."""

    def __init__(self, jobs: Collection[Document]) -> None:
        self._jobs = jobs

    def apply(self, wanted: Sequence[Change], by: str, now: datetime) -> set[str]:
        """Makes the changes whose condition holds; returns the text ids of the others."""
        again: list[Change] = []
        lost: list[Change] = []
        for change, current in self._missed(wanted, by, now, answering=True):
            repeatable = current is not None and has_exactly(current, as_known(change.job))
            (again if repeatable and change.answered is not None else lost).append(change)
        lost += [change for change, _ in self._missed(again, by, now, answering=False)]
        return {str(change.job.id) for change in lost}

    def _missed(
        self, wanted: Sequence[Change], by: str, now: datetime, *, answering: bool
    ) -> list[tuple[Change, Document | None]]:
        """Makes the changes; returns those that did not take place, with what the documents are now.

        With `answering`, a change that answers a request also misses when the request is another by now.
        """
        writes = [_write(change, by, now, answering) for change in wanted]
        outcome = mongo_writes.run(self._jobs, writes)
        for index, message in outcome.refused.items():
            if not self._ended_in_brief(wanted[index], writes[index]):
                self.condemn(writes[index].id, writes[index].expected, now, by, message)
        if outcome.matched + len(outcome.refused) == len(writes):
            return []
        found = self._jobs.find({"_id": {"$in": [write.id for write in writes]}}, NO_INPUTS)
        current = {id_text(document["_id"]): document for document in found}
        rest = [change for index, change in enumerate(wanted) if index not in outcome.refused]
        pairs = [(change, current.get(id_text(change.job.id))) for change in rest]
        return [(change, document) for change, document in pairs if not _took_place(change, document, by, answering)]

    def _ended_in_brief(self, change: Change, write: Write) -> bool:
        """Ends a job whose document has no room for all there is to say: how it ended is true all the same."""
        if change.status not in FINAL or change.job.status in FINAL:
            return False
        brief = {**write.update, "$set": {**write.update["$set"], "results": [], "results_cut": True}}
        brief["$unset"] = {**write.update.get("$unset", {}), "inputs": ""}
        return mongo_writes.fits(self._jobs, Write(write.id, write.expected, brief, write.also)) or False

    def release(self, owner: str, now: datetime, crash: str | None, retry_at: datetime) -> list[Job | BrokenJob]:
        """Ends the leases of an owner; returns the jobs as they are then.

        Also those that no majority has yet: the writes are confirmed only with what they build on.
        """
        held = list(self._jobs.with_options(read_concern=ReadConcern("local")).find(held_by(owner), NO_INPUTS))
        writes = [_release(document, crash, retry_at) for document in held]
        outcome = mongo_writes.run(self._jobs, writes)
        for index, message in outcome.refused.items():
            self.condemn(writes[index].id, writes[index].expected, now, owner, message)
        if not held:
            return []
        return changes.jobs_of(self._jobs.find({"_id": {"$in": [document["_id"] for document in held]}}, NO_INPUTS))

    def condemn(self, job_id: Any, expected: Mapping[str, Any], now: datetime, by: str, message: str) -> None:
        """Ends a document in `error` that no ordinary write can change, if it still is what was expected."""
        document = self._jobs.find_one({"_id": job_id, **exactly(expected)}, NO_INPUTS)
        if document is None:
            return
        fields = changes.condemned(document, now, by, f"the database cannot change it: {message}")
        for update in _ends(fields):
            written = mongo_writes.fits(self._jobs, Write(job_id, expected, update))
            if written is not None:
                break
        if written:
            changes.tell_condemned(job_id, fields)


def _ends(fields: Document) -> tuple[Document, ...]:
    """The end of a document: as it is; without what is large; and, where an app has filled it to the last byte, by a write that
    takes away more than it adds."""
    without = {"inputs": "", "results": "", "attempts": ""}
    smallest = {name: value for name, value in fields.items() if name == "status"}
    all_else = dict.fromkeys(sorted(ENGINE_FIELDS | {"inputs", "request"}), "")
    return (
        {"$set": fields},
        {"$set": fields, "$unset": without},
        {**({"$set": smallest} if smallest else {}), "$unset": all_else},
    )


def as_known(job: Job | BrokenJob) -> dict[str, Any]:
    """What makes sure that a job still has the status and the lease that a writer knew.

    The owner too: after a failover that took a claim back, two owners may have had one and the same token.
    """
    return {"status": str(job.status), "lease.token": job.lease.token, "lease.owner": job.lease.owner}


def _write(change: Change, by: str, now: datetime, answering: bool) -> Write:
    expected, values = as_known(change.job), _values(change)
    update: Document = {"$set": values}
    if change.undo:
        values["history"] = changes.undone(change)
    elif change.status != change.job.status:
        history = changes.history_of(change.job)
        entry = changes.entry(change.status, now, by, change.why, after=history)
        if len(history) < changes.FIRST + changes.LATEST:
            update["$push"] = {"history": entry}
        else:
            values["history"] = changes.bounded([*history, entry])
    if answering and change.answered is not None:
        expected["request"] = change.answered
        update["$unset"] = {"request": ""}
    return Write(change.job.id, expected, update)


def _values(change: Change) -> Document:
    """What is set whatever the job was before."""
    values: Document = {**changes.fields_of(change), "status": str(change.status)}
    if not change.keep_lease:
        values["due_at"] = change.due_at
        values.update(_freed(change.job.lease.token, change.job.lease.crashes, change.crash))
    return values


def _freed(token: int, crashes: int, crash: str | None) -> Document:
    """The lease, ended; anew where it was none."""
    lease = {**_NOBODY, "crashes": 0 if crash is None else crashes + 1, **({} if crash is None else {"crash": crash})}
    if token == ODD_TOKEN:
        return {"lease": {"crash": "", **lease, "token": 1}}
    return {f"lease.{name}": value for name, value in lease.items()}


def _took_place(change: Change, document: Document | None, by: str, answering: bool) -> bool:
    """Whether a document shows that the change was made, now or by an earlier try whose answer was lost.

    A request that is gone may have been withdrawn by its app, and a lease ended by another: then the rest is not as it would be.
    """
    if document is None or not has_exactly(document, {"lease.token": change.job.lease.token}):
        return False
    if document.get("status") != change.status:
        return False
    if change.undo:
        return True
    if change.status == change.job.status:
        answered = not answering or change.answered is None or document.get("request") is None
        return answered and has_exactly(document, as_bson_holds_it(_values(change)))
    history = document.get("history")
    last = history[-1] if isinstance(history, list) and history else None
    return has_exactly(last or {}, {"status": change.status, "by": by, "why": change.why})


def _release(document: Document, crash: str | None, retry_at: datetime) -> Write:
    status = changes.known_status(document.get("status"))
    token, crashes = token_of(document.get("lease")), crashes_of(document.get("lease"))
    values: Document = _freed(token, crashes, crash)
    if crash is None:
        values.pop("lease.crashes", None)
    values["due_at"] = changes.due_after_release(status, value_at(document, "times.notified"), retry_at) if status else None
    expected = {"lease.owner": value_at(document, "lease.owner"), "lease.token": token}
    if status is Status.INIT:
        del values["due_at"]
    return Write(document["_id"], expected, {"$set": values})
