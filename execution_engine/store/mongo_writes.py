"""Conditional writes: each document is changed only if its condition holds at that moment, many in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from execution_engine.store.job_store import Document
from execution_engine.store.mongo_errors import OF_THE_DOCUMENT
from execution_engine.store.mongo_queries import Selection, exactly


@dataclass(frozen=True, slots=True)
class Write:
    """The update of one document.  `expected`: dotted names and their values, all of which must hold; 0 is also a missing one."""

    id: Any
    expected: Mapping[str, Any]
    update: Mapping[str, Any]
    also: Selection = field(default_factory=dict)
    """further conditions"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many documents matched, and the database's words on those that it could not change, by their place in the sequence."""

    matched: int
    refused: Mapping[int, str]


def run(jobs: Collection[Document], writes: Sequence[Write]) -> Outcome:
    """Makes the writes whose conditions hold.

    Raises pymongo's errors, except for documents that cannot be changed so whenever it is tried.  An error of any other kind
    speaks of the database, also where each document gets one of its own: then no document is to blame.
    """
    updates = [UpdateOne({"_id": write.id, **exactly(write.expected), **write.also}, write.update) for write in writes]
    if not updates:
        return Outcome(0, {})
    try:
        return Outcome(jobs.bulk_write(updates, ordered=False).matched_count, {})
    except BulkWriteError as error:
        details = error.details or {}
        failed = details["writeErrors"]
        if details.get("writeConcernErrors") or any(found["code"] not in OF_THE_DOCUMENT for found in failed):
            raise
        return Outcome(details["nMatched"], {found["index"]: found["errmsg"] for found in failed})


def fits(jobs: Collection[Document], write: Write) -> bool | None:
    """Makes one write; whether its condition held.  None: the document cannot be changed so."""
    outcome = run(jobs, [write])
    return None if outcome.refused else outcome.matched > 0
