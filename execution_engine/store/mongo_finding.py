"""Jobs are looked for in MongoDB: by what a filter says, or by the beginning of an id."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import pymongo.collection
from bson import ObjectId

from execution_engine.store import changes, mongo_queries
from execution_engine.store.extended_json import id_text
from execution_engine.store.job_store import Document, Filter

_AT_A_TIME = 500
"""Documents of an answer, or as many as fit into 16 MiB."""
_FEW = 6
_DATED = {"_id", "times.created"}
"""What tells how old a document is."""

_ODD_IDS = {
    "object": r"\{",
    "binData": "b",
    "bool": "[TF]",
    "null": "N",
    "timestamp": "T",
    "date": r"\d{1,3}$|\d{4}(-|$)",
}
"""The types of ids for which no range of the index holds those whose text begins so; and how the text of one of them begins."""


def found(
    jobs: pymongo.collection.Collection[Document], selection: Filter, limit: int, fields: Collection[str] | None, now: datetime
) -> Iterator[Document]:
    """See JobStore.find.  Jobs that no engine has taken up yet tell by their ids how old they are; the others come in between."""
    wanted = mongo_queries.selected(selection)
    projection = None if fields is None else changes.whole({*fields, *_DATED})
    since = {"$gte": selection.since} if selection.since is not None else {"$ne": None}
    sources = (
        ({**wanted, "times.created": None}, [("_id", -1)]),
        ({**wanted, "times.created": since}, [("times.created", -1), ("_id", -1)]),
    )
    streams = (
        _dated(jobs.find(conditions, projection, batch_size=_AT_A_TIME).sort(order).limit(limit), now)
        for conditions, order in sources
    )
    newest_first = heapq.merge(*streams, key=lambda dated: dated[0], reverse=True)
    documents = changes.not_before(_once((document for _, document in newest_first), now), selection.since)
    return islice(documents, limit or None)


def _once(documents: Iterator[Document], began: datetime) -> Iterator[Document]:
    """Without those that were taken up since it began, and are found among the others too."""
    seen: set[str] = set()
    for document in documents:
        created = mongo_queries.value_at(document, "times.created")
        if created is None or not isinstance(created, datetime) or created >= began:
            text = id_text(document["_id"])
            if text in seen:
                continue
            seen.add(text)
        yield document


def _dated(documents: Iterator[Document], now: datetime) -> Iterator[tuple[datetime, Document]]:
    """Each with its age, none newer than the one before: one that does not tell is as old as its neighbour."""
    latest = now
    for document in documents:
        made = changes.created(document)
        latest = latest if made is None else min(latest, made)
        yield latest, document


def beginning_with(jobs: pymongo.collection.Collection[Document], text: str) -> list[Any]:
    """Some of the ids whose text begins so, or is so."""
    ids: list[Any] = []
    ranges: list[tuple[Any, Any]] = [*mongo_queries.numbers_beginning(text), (text, text + "\U0010ffff")]
    if len(text) <= 24 and all(character in "0123456789abcdef" for character in text):
        ranges.append((ObjectId(text.ljust(24, "0")), ObjectId(text.ljust(24, "f"))))
    for first, last in ranges:
        ids += _ids(jobs, {"_id": {"$gte": first, "$lte": last}}, text)
    for kind, begins in _ODD_IDS.items():
        if re.match(begins, text):
            ids += _ids(jobs, {"_id": {"$type": kind}}, text)
    return ids


def _ids(jobs: pymongo.collection.Collection[Document], selection: mongo_queries.Selection, text: str) -> Iterator[Any]:
    ids = (one["_id"] for one in jobs.find(selection, {"_id": 1}, batch_size=_AT_A_TIME).sort("_id", 1))
    return islice((job_id for job_id in ids if str(job_id).startswith(text)), _FEW)
