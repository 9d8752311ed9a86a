"""Whether the user of `database.url` can do what an engine does: each is tried, with records that are removed again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from pymongo import IndexModel
from pymongo.collection import Collection

from execution_engine.store import mongo_indexes
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.job_store import Document
from execution_engine.store.journal import Entry
from execution_engine.store.mongo_engines import engine_document
from execution_engine.store.mongo_indexes import Indexes
from execution_engine.store.mongo_journal import entry_document

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_OF_EVERY_COLLECTION = IndexModel([("_id", 1)], name="_id_")
_LEASE = 3600.0


def carry_out(indexes: Indexes, name: str) -> None:
    """Raises pymongo's errors.  `name`: the id of the records; others may see them for a moment, and know how to take them.

    The removal is tried first, before there is something to remove: a user without that right leaves nothing behind.
    """
    for collection, record in _records(indexes, name):
        collection.find_one({"_id": name})
        collection.delete_one({"_id": name})
        collection.insert_one(record)
        collection.update_one({"_id": name}, {"$set": {"trial": True}})
        collection.delete_one({"_id": name})
    for collection in {collection.name: collection for collection, _, _ in mongo_indexes.not_as_wanted(indexes)}.values():
        collection.create_indexes([_OF_EVERY_COLLECTION])  # every collection has it: only the right to make one is asked for


def _records(indexes: Indexes, name: str) -> Iterator[tuple[Collection[Document], Document]]:
    """A document that is no job, an engine of no lanes, an event that no list begins with."""
    engine = EngineRecord(name, "", "", os.getpid(), "", _LONG_AGO, _LEASE, (), 0, _LONG_AGO)
    event = Entry(_LONG_AGO, "trial", "", (), {}, name)
    records = {"jobs": {"_id": name}, "engines": engine_document(engine), "events": entry_document(event)}
    for collection, _wanted in indexes:
        yield collection, records[collection.name]
