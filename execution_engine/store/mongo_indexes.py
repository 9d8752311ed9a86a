"""The indexes of collections: what is missing or wrong, and how it is made right."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import pymongo
from pymongo import IndexModel
from pymongo.collection import Collection

from execution_engine import events
from execution_engine.store.mongo_queries import Order

Indexes = Iterable[tuple[Collection[Any], Iterable[tuple[Order, dict[str, Any]]]]]
"""Collections, and the keys and options of each index that they must have."""

_LONGEST = 4 * 3600.0
"""Seconds for one index, of however many jobs."""

_MISSING, _ANOTHER = "is missing", "is another than it must be"


def make_missing(indexes: Indexes) -> None:
    """Makes the indexes that are missing."""
    for collection, model, what in not_as_wanted(indexes):
        if what == _MISSING:
            _make(collection, model)


def wrong(indexes: Indexes) -> list[str]:
    """A line for each index that is not as it must be."""
    return [f"{collection.name}: {model.document['name']} {what}" for collection, model, what in not_as_wanted(indexes)]


def make_right(indexes: Indexes) -> None:
    """Makes the missing ones, and the wrong ones anew."""
    for collection, model, what in not_as_wanted(indexes):
        if what == _ANOTHER:
            collection.drop_index(str(model.document["name"]))
        _make(collection, model)


def _make(collection: Collection[Any], model: IndexModel) -> None:
    """The deadline of an operation is not for this one: the server reads the whole collection."""
    name, began, told = (
        f"{collection.name}: {model.document['name']}",
        time.monotonic(),
        collection.estimated_document_count() > 0,
    )
    if told:
        events.emit("database.index", index=name)
    with pymongo.timeout(_LONGEST):
        collection.create_indexes([model])
    if told:
        events.emit("database.index.made", index=name, seconds=round(time.monotonic() - began, 1))


def not_as_wanted(indexes: Indexes) -> Iterator[tuple[Collection[Any], IndexModel, str]]:
    """Each index that is missing, or another than it must be, with its collection."""
    for collection, wanted in indexes:
        there = collection.index_information()
        for keys, options in wanted:
            model = IndexModel(keys, **options)
            found = there.get(str(model.document["name"]))
            if found is None:
                yield collection, model, _MISSING
            elif _definition(found["key"], found) != _definition(keys, options):
                yield collection, model, _ANOTHER


def _definition(keys: Order, options: dict[str, Any]) -> tuple[list[tuple[str, int]], bool]:
    """What of an index decides what it is good for.  A server gives directions as numbers of any kind."""
    return [(key, int(way)) for key, way in keys], bool(options.get("unique"))
