"""The registry of engines in MongoDB."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict

from pymongo.collection import Collection

from execution_engine.store.engine_registry import EngineRecord, EngineRegistry
from execution_engine.store.job_store import Document

Using = Callable[[], AbstractContextManager[None]]


class MongoEngineRegistry(EngineRegistry):
    """The collection `engines`.  `talking` is the job store's."""

    def __init__(self, engines: Collection[Document], talking: Using) -> None:
        self._engines = engines
        self._talking = talking

    def sign_in(self, record: EngineRecord) -> None:
        with self._talking():
            self._engines.replace_one({"_id": record.id}, engine_document(record), upsert=True)

    def beat(self, record: EngineRecord) -> bool:
        with self._talking():
            return self._engines.replace_one({"_id": record.id}, engine_document(record)).matched_count > 0

    def all(self) -> list[EngineRecord]:
        with self._talking():
            found = list(self._engines.find())
        return sorted(map(_record, found), key=lambda record: (record.started, record.id))

    def sign_out(self, engine: str) -> None:
        with self._talking():
            self._engines.delete_one({"_id": engine})

    def declare_dead(self, engine: str, beats: int) -> bool:
        with self._talking():
            return self._engines.delete_one({"_id": engine, "beats": beats}).deleted_count > 0


def engine_document(record: EngineRecord) -> Document:
    """What is stored of an engine."""
    document = asdict(record)
    return {"_id": document.pop("id"), **document, "lanes": list(record.lanes)}


def _record(document: Document) -> EngineRecord:
    return EngineRecord.of({**document, "id": document["_id"]})
