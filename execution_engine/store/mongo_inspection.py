"""What `execd doctor` asks of a MongoDB."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from execution_engine.jobs.job import ENGINE_FIELDS
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store import mongo_indexes, mongo_trial
from execution_engine.store.inspection import Inspection
from execution_engine.store.job_store import Document
from execution_engine.store.mongo_indexes import Indexes
from execution_engine.store.mongo_queries import NO_INPUTS, Selection

_FINAL = sorted(str(status) for status in FINAL)
_UNFINISHED = sorted(str(status) for status in set(Status) - FINAL)
_WITHOUT_STATUS = {"$or": [{"status": None}, {"status": {"$type": ["number", "object", "bool", "date"]}}]}
"""Each of both is found in the index of the status, without a look at other jobs."""
_AT_A_TIME = 500
_BRIEF = dict.fromkeys(ENGINE_FIELDS - {"history", "results"} | {"status", "request", "name"}, 1)


class MongoInspection(Inspection):
    """`talking`: what makes the driver's errors the store's."""

    def __init__(self, jobs: Collection[Document], indexes: Indexes, talking: Callable[[], AbstractContextManager[None]]) -> None:
        self._jobs, self._indexes, self._talking = jobs, indexes, talking

    def wrong_indexes(self) -> list[str]:
        with self._talking():
            return mongo_indexes.wrong(self._indexes)

    def make_indexes(self) -> None:
        with self._talking():
            mongo_indexes.make_right(self._indexes)

    def try_out(self, *, jobs_only: bool = False) -> None:
        with self._talking():
            mongo_trial.carry_out([(self._jobs, ())] if jobs_only else self._indexes, f"trial-{uuid.uuid4().hex}")

    def clock(self) -> datetime | None:
        with self._talking():
            found = self._jobs.database.command("hello", codec_options=self._jobs.codec_options).get("localTime")
        return found if isinstance(found, datetime) else None

    def unfinished(self) -> Iterator[Document]:
        return self._documents({"status": {"$in": _UNFINISHED}}, NO_INPUTS)

    def without_status(self, most: int) -> int:
        with self._talking():
            return self._jobs.count_documents(_WITHOUT_STATUS, limit=most)

    def untold(self) -> Iterator[Document]:
        return self._documents({"status": {"$in": _FINAL}, "due_at": {"$type": "date"}}, _BRIEF)

    def ids(self) -> Iterator[Any]:
        return (found["_id"] for found in self._documents({}, {"_id": 1}))

    def _documents(self, selection: Selection, fields: dict[str, int]) -> Iterator[Document]:
        with self._talking():
            yield from self._jobs.find(selection, fields, batch_size=_AT_A_TIME)
