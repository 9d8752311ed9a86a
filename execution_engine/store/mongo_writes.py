"""How many conditional writes reach the database, so that each happens only if its condition holds at that moment.

On MongoDB every update of a document is atomic: one unordered bulk write does it.  FerretDB 1.24 reads documents and then writes
them back, without keeping other writers out, in `update` and `findAndModify` alike (eight processes claimed a thousand jobs 2,485
times); only the insert of a unique `_id` is atomic there.  So its writers take turns by inserting numbered documents.  That holds
among job stores; an app that changes a job of its own at the same moment may lose its change there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError, WriteError

from execution_engine.clock import Clock
from execution_engine.errors import StoreUnavailable
from execution_engine.store import extended_json
from execution_engine.store.job_store import Document
from execution_engine.store.mongo_queries import Selection, exactly, has_exactly

_TURN = 10.0
_PATIENCE = 120.0
_GLANCE = 0.02
_KEPT_TURNS = 8


@dataclass(frozen=True, slots=True)
class Write:
    """The update of one document.  `expected`: dotted names and their values, all of which must hold; 0 is also a missing one."""

    id: Any
    expected: Mapping[str, Any]
    update: Mapping[str, Any]
    also: Selection = field(default_factory=dict)
    """further conditions; a turn guarantees them"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many documents matched, and the database's words on those that it could not change, by their place in the sequence."""

    matched: int
    refused: Mapping[int, str]


class AtomicWriter:
    """For a database that updates each document atomically."""

    def __init__(self, jobs: Collection[Document]) -> None:
        self._jobs = jobs

    def turn(self) -> AbstractContextManager[None]:
        """What is read and written within is not disturbed by other stores, where updates alone do not guarantee it."""
        return nullcontext()

    def run(self, writes: Sequence[Write], *, just_read: bool = False) -> Outcome:
        """Makes the writes whose conditions hold.  Raises pymongo's errors, except for documents that cannot be changed so.

        `just_read`: all that is expected was read within this turn.
        """
        del just_read
        updates = [UpdateOne({"_id": write.id, **exactly(write.expected), **write.also}, write.update) for write in writes]
        if not updates:
            return Outcome(0, {})
        try:
            return Outcome(self._jobs.bulk_write(updates, ordered=False).matched_count, {})
        except BulkWriteError as error:
            details = error.details or {}
            if details.get("writeConcernErrors"):
                raise
            return Outcome(details["nMatched"], {found["index"]: found["errmsg"] for found in details["writeErrors"]})


class TurnTakingWriter(AtomicWriter):
    """For FerretDB: one writer at a time.

    Each update is a command of its own, found by `_id` alone: a bulk of more than a hundred exhausts the server's connections and
    hangs, an error in one hides the outcome of the others, and with any further condition it reads the whole collection.
    """

    def __init__(self, jobs: Collection[Document], clock: Clock) -> None:
        super().__init__(jobs)
        self._turns = jobs.database.get_collection(f"{jobs.name}.turns")
        self._clock = clock
        self._number = 0
        self._ends = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._wait()
        try:
            yield
        finally:
            self._turns.update_one({"_id": self._number}, {"$set": {"over": True}})

    def run(self, writes: Sequence[Write], *, just_read: bool = False) -> Outcome:
        current = {} if just_read else self._read(writes)
        matched, refused = 0, {}
        for index, write in enumerate(writes):
            if not just_read and not has_exactly(current.get(extended_json.id_text(write.id)), write.expected):
                continue
            self._hold()
            try:
                matched += self._jobs.update_one({"_id": write.id}, write.update).matched_count
            except WriteError as error:
                refused[index] = str(error.details["errmsg"] if error.details else error)
        return Outcome(matched, refused)

    def _read(self, writes: Sequence[Write]) -> dict[str, Document]:
        names = {name: 1 for write in writes for name in write.expected}
        found = self._jobs.find({"_id": {"$in": [write.id for write in writes]}}, names)
        return {extended_json.id_text(document["_id"]): document for document in found}

    # --- turns

    def _wait(self) -> None:
        """Waits for this writer's turn.  The turn of a process that died passes after a while."""
        deadline = self._clock.monotonic() + _PATIENCE
        while self._clock.monotonic() < deadline:
            latest = self._latest()
            over = latest is None or latest.get("over") or latest["until"] <= self._clock.now()
            if over and self._begin(latest["_id"] + 1 if latest else 1):
                return
            time.sleep(random.uniform(0.5, 1.5) * _GLANCE)
        raise StoreUnavailable(f"other processes have kept it busy for {_PATIENCE:.0f} s")

    def _begin(self, number: int) -> bool:
        self._ends = self._clock.monotonic() + _TURN
        try:
            self._turns.insert_one({"_id": number, "until": self._until()})
        except DuplicateKeyError:
            return False
        latest = self._latest()
        if latest is None or latest["_id"] != number:
            return False
        self._number = number
        if number % _KEPT_TURNS == 0:
            self._turns.delete_many({"_id": {"$lt": number - _KEPT_TURNS}})
        return True

    def _hold(self) -> None:
        """Makes a long turn longer in time.  Raises StoreUnavailable when it has passed to another already."""
        left = self._ends - self._clock.monotonic()
        if left < 0:
            raise StoreUnavailable(f"it was too slow: a turn of {_TURN:.0f} s to write has passed")
        if left < _TURN / 2:
            self._ends = self._clock.monotonic() + _TURN
            self._turns.update_one({"_id": self._number}, {"$set": {"until": self._until()}})

    def _until(self) -> datetime:
        return self._clock.now() + timedelta(seconds=_TURN)

    def _latest(self) -> Document | None:
        return self._turns.find_one(sort=[("_id", -1)])
