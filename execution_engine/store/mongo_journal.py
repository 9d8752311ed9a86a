"""The journal in MongoDB."""

from __future__ import annotations

from collections import abc
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from execution_engine.store.job_store import Document
from execution_engine.store.journal import Entry, Journal
from execution_engine.store.mongo_engines import Using
from execution_engine.store.mongo_errors import DUPLICATE


class MongoJournal(Journal):
    """The collection `events`.  `talking` is the job store's."""

    def __init__(self, events: Collection[Document], talking: Using) -> None:
        self._events = events
        self._talking = talking

    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        with self._talking():
            try:
                self._events.insert_many([entry_document(entry) for entry in entries], ordered=False)
            except BulkWriteError as error:
                failed = (error.details or {}).get("writeErrors", [])
                if not failed or any(each.get("code") != DUPLICATE for each in failed):
                    raise

    def select(
        self, job: str | None = None, since: datetime | None = None, limit: int = 0, events: abc.Collection[str] = ()
    ) -> list[Entry]:
        wanted: dict[str, Any] = {} if job is None else {"jobs": job}
        if since is not None:
            wanted["at"] = {"$gte": since}
        if events:
            wanted["event"] = {"$in": [*events]}
        with self._talking():
            found = list(self._events.find(wanted).sort([("at", -1), ("_id", -1)]).limit(limit))
        return [_entry(document) for document in reversed(found)]

    def expire(self, before: datetime, limit: int) -> int:
        with self._talking():
            old = self._events.find({"at": {"$lt": before}}, {"_id": True}).sort([("at", 1), ("_id", 1)]).limit(limit)
            return self._events.delete_many({"_id": {"$in": [document["_id"] for document in old]}}).deleted_count


def entry_document(entry: Entry) -> Document:
    """What is stored of an entry."""
    document = asdict(entry)
    return {"_id": document.pop("id"), **document, "jobs": list(entry.jobs)}


def _entry(document: Document) -> Entry:
    return Entry(id=document.pop("_id"), **{**document, "jobs": tuple(document["jobs"])})
