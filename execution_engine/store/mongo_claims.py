"""Claims in MongoDB: look for candidates, take them each on condition that it is still free, read back what was taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from pymongo.collection import Collection

from execution_engine.jobs.job import SCHEMA_VERSION, Job
from execution_engine.jobs.lease import ODD_TOKEN, crashes_of, token_of
from execution_engine.jobs.recovery import BEGUN
from execution_engine.jobs.status import Status
from execution_engine.store import changes, mongo_writes
from execution_engine.store.extended_json import id_text
from execution_engine.store.job_store import CLAIMS, MOST_AT_ONCE, SMALL_INPUTS, Claimed, Cores, Document, Query, Work
from execution_engine.store.mongo_queries import BRIEF, INPUTS_SIZE, NO_INPUTS, REST_SIZE, Selection, not_after, sources, value_at
from execution_engine.store.mongo_updates import Updates
from execution_engine.store.mongo_writes import Write

_ATTEMPTS = 20
"""Times that a claim looks anew because others took all that it had found."""

_LONGEST = changes.FIRST + changes.LATEST

_FAR_FUTURE = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A claim that was written.  `were`: the ids by their texts, and the statuses before."""

    query: Query
    owner: str
    were: dict[str, tuple[Any, Status]]
    with_inputs: frozenset[str]
    """the texts of the ids of jobs whose inputs are read with them"""


class Claims:
    """The claims of one store."""

    def __init__(self, jobs: Collection[Document], updates: Updates) -> None:
        self._jobs = jobs
        self._updates = updates
        self._unread: _Taken | None = None

    def claim(
        self, query: Query, owner: str, limit: int, now: datetime, until: datetime, cores: Cores | None = None
    ) -> list[Claimed]:
        """See JobStore.claim.  A claim whose answer was lost on the way is answered by the next one."""
        unread = self._unread
        if unread and (unread.query, unread.owner) == (query, owner) and (claimed := self._read_back(unread, {})):
            return claimed
        for _ in range(_ATTEMPTS):
            found = self._find(query, limit, now)
            if early := [document for document in found if query.work is Work.BUILDING and _is_early(document, now)]:
                self._postpone(early, now, owner)
                continue
            chosen = changes.choose((_candidate(document) for document in found), limit, cores)
            if not chosen:
                return []
            if claimed := self._take(query, [candidate.handle for candidate in chosen], owner, now, until):
                return claimed
        return []

    def claim_one(self, job_id: Any, owner: str, now: datetime, until: datetime) -> Job | None:
        """See JobStore.claim_one."""
        document = self._jobs.find_one({"_id": job_id}, NO_INPUTS)
        status = changes.known_status(document.get("status")) if document else None
        if document is None or status is None or not isinstance(changes.job_of(document), Job):
            return None
        held_until = value_at(document, "lease.until")
        if value_at(document, "lease.owner") != owner and isinstance(held_until, datetime) and held_until > now:
            return None
        mongo_writes.run(self._jobs, [_write(document, status, status, owner, now, until, {})])
        mine = self._jobs.find_one({"_id": job_id, "lease.owner": owner, "lease.until": until}, NO_INPUTS)
        job = None if mine is None else changes.job_of(mine)
        return job if isinstance(job, Job) else None

    # --- candidates

    def _find(self, query: Query, limit: int, now: datetime) -> list[Document]:
        """Enough documents to choose from.  All of the first source's (those whose time has come) compete with the others.

        Where no index has their order, the server sorts whole documents: before MongoDB 6.0 it does so in 100 MB, or not at all.
        """
        found: dict[str, Document] = {}
        enough: int | None = None
        room = MOST_AT_ONCE
        for source in sources(query, now):
            cursor = self._jobs.find(source.selection, BRIEF, hint=source.index, allow_disk_use=True)
            for document in cursor.sort(source.order).limit(limit):
                if room <= 0:
                    break
                found.setdefault(id_text(document["_id"]), document)
                room -= document[REST_SIZE]
            if enough is None:
                enough = len(found) + limit
            elif len(found) >= enough:
                break
        return list(found.values())

    def _postpone(self, early: Sequence[Document], now: datetime, owner: str) -> None:
        still = {"due_at": not_after(now)}
        self._run(
            [Write(one["_id"], _as_found(one), {"$set": {"due_at": one["not_before"]}}, still) for one in early], now, owner
        )

    def _run(self, writes: Sequence[Write], now: datetime, owner: str) -> int:
        """Makes the writes, and ends the documents that cannot be changed so; returns how many others matched."""
        outcome = mongo_writes.run(self._jobs, writes)
        for index, message in outcome.refused.items():
            self._updates.condemn(writes[index].id, writes[index].expected, now, owner, message)
        return outcome.matched

    # --- taking them

    def _take(self, query: Query, documents: Sequence[Document], owner: str, now: datetime, until: datetime) -> list[Claimed]:
        were = {id_text(document["_id"]): (document["_id"], Status(document["status"])) for document in documents}
        writes = []
        for document in documents:
            was = Status(document["status"])
            writes.append(_write(document, was, CLAIMS.get(query.work, {}).get(was, was), owner, now, until, _still(query, now)))
        with_inputs = _with_inputs(documents) if query.work is Work.BUILDING else frozenset()
        self._unread = _Taken(query, owner, were, with_inputs)
        return self._read_back(self._unread, {"lease.until": until}) if self._run(writes, now, owner) else self._nothing()

    def _nothing(self) -> list[Claimed]:
        self._unread = None
        return []

    def _read_back(self, taken: _Taken, also: Selection) -> list[Claimed]:
        """What was taken; a few large jobs without their inputs."""
        large = [job_id for text, (job_id, _) in taken.were.items() if text not in taken.with_inputs]
        small = [job_id for text, (job_id, _) in taken.were.items() if text in taken.with_inputs]
        found: list[Document] = []
        for ids, fields in ((small, None), (large, NO_INPUTS)):
            if ids:
                found += self._jobs.find({"_id": {"$in": ids}, "lease.owner": taken.owner, **also}, fields)
        self._shorten(found)
        self._unread = None
        mine = {id_text(document["_id"]): document for document in found}
        left = taken.were.keys() - taken.with_inputs if taken.query.work is Work.BUILDING else ()
        return [Claimed(changes.job_of(mine[text]), was, text in left) for text, (_, was) in taken.were.items() if text in mine]

    def _shorten(self, documents: Iterable[Document]) -> None:
        """Keeps the histories within bounds; `$slice` cannot keep both ends."""
        histories = ((document, document.get("history")) for document in documents)
        long = [document for document, found in histories if isinstance(found, list) and len(found) > _LONGEST]
        for document in long:
            document["history"] = changes.bounded(document["history"])
        mongo_writes.run(
            self._jobs,
            [Write(document["_id"], _as_found(document), {"$set": {"history": document["history"]}}) for document in long],
        )


def _with_inputs(documents: Iterable[Document]) -> frozenset[str]:
    """The ids, as texts, of the documents whose inputs are small together."""
    sizes = sorted((document[INPUTS_SIZE], id_text(document["_id"])) for document in documents)
    together = accumulate(size for size, _ in sizes)
    return frozenset(text for (_, text), size in zip(sizes, together, strict=True) if size <= SMALL_INPUTS)


def _candidate(document: Document) -> changes.Candidate:
    return changes.Candidate(
        handle=document,
        priority=changes.priority_of(document),
        created=(changes.created(document) or _FAR_FUTURE).timestamp(),
        crashes=crashes_of(document.get("lease")),
        cores=changes.cores_of(document),
        begun=document.get("status") in BEGUN,
    )


def _is_early(document: Document, now: datetime) -> bool:
    not_before = document.get("not_before")
    return isinstance(not_before, datetime) and not_before > now


def _still(query: Query, now: datetime) -> Selection:
    """The condition that nobody else took the job since it was found."""
    return {"lease.until" if query.work is Work.REQUEST else "due_at": not_after(now)}


def _is_fresh(document: Document) -> bool:
    return document["status"] == Status.TO_BE_BUILT and document.get("schema") is None


def _as_found(document: Document) -> dict[str, Any]:
    """What makes sure that a document is still as it was found."""
    if _is_fresh(document):
        return {"status": document["status"], "schema": None}
    return {
        "status": document["status"],
        "lease.token": token_of(document.get("lease")),
        "lease.owner": value_at(document, "lease.owner"),
    }


def _write(
    document: Document, was: Status, becomes: Status, owner: str, now: datetime, until: datetime, also: Selection
) -> Write:
    """The lease and, where there is one, the transition.

    At the first claim of an app's document the engine's fields are set as a whole, whatever an app may have left there.
    """
    history = value_at(document, "history")
    before = history if isinstance(history, list) and not _is_fresh(document) else ()
    entries = [changes.entry(becomes, now, owner, after=before)] if becomes is not was else []
    values: Document = {"status": str(becomes), "due_at": until}
    update: Document = {"$set": values}
    if _is_fresh(document):
        values["schema"] = SCHEMA_VERSION
        values["lease"] = {"owner": owner, "token": 1, "until": until, "crashes": 0, "crash": ""}
        values["history"] = entries
        values["times"] = {"created": changes.created(document) or now}
    else:
        token, lease = token_of(document.get("lease")), document.get("lease")
        if token == ODD_TOKEN or lease is None:
            values["lease"] = {"owner": owner, "token": 1, "until": until, "crashes": crashes_of(lease), "crash": ""}
        else:
            values.update({"lease.owner": owner, "lease.until": until, "lease.token": token + 1})
        if entries:
            update["$push"] = {"history": entries[0]}
    return Write(document["_id"], _as_found(document), update, also)
