"""What is asked of MongoDB, and the indexes that serve it: equality first, then the order, then the rest; no `$or`, no `$nin`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from execution_engine.jobs.lease import LAST_TOKEN, ODD_TOKEN, token_of
from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.store.job_store import CLAIMS, REQUESTABLE, Filter, Query, Work

_LARGEST = 2**63 - 1

Selection = dict[str, Any]
Order = list[tuple[str, int]]

_BY_STATUS: Order = [("status", 1), ("due_at", 1), ("priority", -1), ("_id", 1)]
_BY_LANE: Order = [("status", 1), ("execution.lane", 1), ("due_at", 1), ("priority", -1), ("times.created", 1)]
_BY_REQUEST: Order = [("request", 1)]

INDEXES: tuple[tuple[Order, dict[str, Any]], ...] = (
    (_BY_STATUS, {}),
    (_BY_LANE, {}),
    (_BY_REQUEST, {"sparse": True}),
    ([("lease.owner", 1)], {}),
    ([("times.created", -1), ("_id", -1)], {}),
    *(
        ([(name, 1), ("times.created", -1), ("_id", -1)], {"partialFilterExpression": {name: {"$exists": True}}})
        for name in ("owner", "project", "execution.system")
    ),
    ([("tags", 1), ("_id", -1)], {"partialFilterExpression": {"tags": {"$exists": True}}}),
)
"""The last four are for people who look for jobs; a job without such a field is not in them, and costs nothing there.

The one of tags, which are lists, has not the age: a document in which `times` is a list, too, could be in no index of both.
"""

EVENT_INDEXES: tuple[tuple[Order, dict[str, Any]], ...] = (
    ([("at", -1), ("_id", -1)], {}),
    ([("jobs", 1), ("at", -1), ("_id", -1)], {}),
)

_INPUTS_SIZE = {"$cond": [{"$eq": [{"$type": "$inputs"}, "object"]}, {"$bsonSize": "$inputs"}, 0]}
INPUTS_SIZE, REST_SIZE = "inputs size", "rest size"
BRIEF: dict[str, Any] = {
    **dict.fromkeys(("status", "schema", "priority", "not_before", "times.created", "resources.cores", "lease"), 1),
    "history": {"$slice": -1},
    INPUTS_SIZE: _INPUTS_SIZE,
    REST_SIZE: {"$subtract": [{"$bsonSize": "$$ROOT"}, _INPUTS_SIZE]},
}
"""What a claim must know of a candidate."""

NO_INPUTS = {"inputs": 0}
FOLLOWED = ("_id", "status", "execution.job_no", "execution.name", "dir", "attempt", "lease.until")
"""What a turn must know of each job that a system has."""

_WAITING = [str(status) for statuses in CLAIMS.values() for status in statuses]
_FINAL = sorted(str(status) for status in FINAL)
_REQUESTABLE = sorted(str(status) for status in REQUESTABLE)
_REQUESTABLE_HERE = sorted(str(status) for status in REQUESTABLE - FINAL)
_ON_SYSTEM = sorted(str(status) for status in ON_SYSTEM)


@dataclass(frozen=True, slots=True)
class Source:
    """A place where due jobs are found, in their order.

    `index`: the one that serves it; left to itself, the server also takes one that has the statuses and not the lane, or not
    the order.
    """

    selection: Selection
    order: Order
    index: Order


_NO_LIST = {"$not": {"$type": "array"}}
"""MongoDB takes a list for each of its items; a list is no status and no request."""

A_TEXT = {"$type": "string", **_NO_LIST}


def _one_of(statuses: Sequence[str]) -> Selection:
    return {**({"$eq": statuses[0]} if len(statuses) == 1 else {"$in": [*statuses]}), **_NO_LIST}


def not_after(now: datetime) -> Selection:
    """Matches a date that has come, null, a missing field, and what is no date at all (a claim finds that out)."""
    return {"$not": {"$gt": now}}


def sources(query: Query, now: datetime) -> Iterator[Source]:
    """Where the jobs of a query are found.  The first ones are in the order of the claim; they need not all be read."""
    match query.work:
        case Work.BUILDING | Work.SUBMIT:
            waiting, taken = (str(status) for status in CLAIMS[query.work])
            lane = {"execution.lane": query.lane} if query.work is Work.SUBMIT else {}
            age, index = ("times.created", _BY_LANE) if query.work is Work.SUBMIT else ("_id", _BY_STATUS)
            timed = {"due_at": {**not_after(now), "$ne": None}}
            begun_first = ("status", 1)  # `building` and `submitting` come before `to be …`
            yield Source({"status": _one_of([waiting, taken]), **lane, **timed}, [begun_first, ("priority", -1), (age, 1)], index)
            yield from _by_priority({"status": _one_of([waiting]), **lane, "due_at": None}, age, index)
        case Work.REQUEST:
            free = {"request": A_TEXT, "lease.until": not_after(now)}
            order = [("priority", -1), ("times.created", 1)]
            here = {"execution.lane": query.lane, "execution.job_no": {"$ne": None}, "status": _one_of(_REQUESTABLE_HERE)}
            yield Source({**free, **here}, order, _BY_REQUEST)
            if query.lane is None:
                yield Source({**free, "execution.job_no": None, "status": _one_of(_REQUESTABLE_HERE)}, order, _BY_REQUEST)
                yield Source({**free, "status": _one_of(_FINAL)}, order, _BY_REQUEST)
        case Work.NOTIFICATION:
            yield Source(
                {"status": _one_of(_FINAL), "due_at": {"$lte": now}}, [("priority", -1), ("times.created", 1)], _BY_STATUS
            )


def _by_priority(selection: Selection, age: str, index: Order) -> Iterator[Source]:
    """A priority that is missing is 0, but MongoDB sorts it below all numbers: so those of 0 and of none are asked for by
    themselves, and the last question finds what is left, also a priority that is no number.
    """
    yield Source({**selection, "priority": {"$gt": 0}}, [("priority", -1), (age, 1)], index)
    yield Source({**selection, "priority": {"$in": [0, None]}}, [(age, 1)], index)
    yield Source(selection, [("priority", -1), (age, 1)], index)


def anything_due(now: datetime) -> tuple[Selection, ...]:
    """Three questions, one of which finds something whenever any query whatever has a job that is due."""
    return (
        {"status": _one_of(_WAITING), "due_at": not_after(now)},
        {"status": _one_of(_FINAL), "due_at": {"$lte": now}},
        {"request": A_TEXT, "status": _one_of(_REQUESTABLE)},
    )


def on_system(lane: str, among: Collection[Any] | None = None) -> Selection:
    """The jobs of a lane that the system has; `among`: those of these ids."""
    ids = {} if among is None else {"_id": {"$in": [*among]}}
    return {**ids, "status": _one_of(_ON_SYSTEM), "execution.lane": lane}


def taking_room(lane: str, now: datetime) -> Selection:
    """The jobs of a lane that the system has, and those that are being submitted just now."""
    there = [{"execution.job_no": {"$ne": None}}, {"lease.until": {"$gt": now}}]
    return {"status": _one_of([*_ON_SYSTEM, Status.SUBMITTING.value]), "execution.lane": lane, "$or": there}


def held_by(owner: str) -> Selection:
    """The jobs with a lease of this owner, or of all whose names begin so (`…*`)."""
    if owner.endswith("*"):
        return {"lease.owner": {"$gte": owner[:-1], "$lt": owner[:-1] + "\U0010ffff"}}
    return {"lease.owner": owner}


def selected(selection: Filter) -> Selection:
    """The documents of a filter, except for its `since`."""
    wanted: Selection = {}
    if selection.statuses:
        wanted["status"] = {"$in": [str(status) for status in selection.statuses]}
    for name, value in (("owner", selection.owner), ("project", selection.project)):
        if value is not None:
            wanted[name] = {"$in": [value, None]} if value == "default" else value
    if selection.system is not None:
        wanted["execution.system"] = selection.system
    if selection.tag is not None:
        wanted["tags"] = selection.tag
    return wanted


_TOKEN, _OWNER = "lease.token", "lease.owner"


def _is_none_of(name: str, *types: str) -> Selection:
    return {"$not": [{"$in": [{"$type": name}, [*types, "missing", "null", "undefined"]]}]}


_OUT_OF_RANGE = {"$or": [{"$lt": ["$lease.token", 0]}, {"$gte": ["$lease.token", LAST_TOKEN]}]}
_ODD_TOKEN = {
    "$or": [
        _is_none_of("$lease", "object"),
        _is_none_of("$lease.owner", "string"),
        _is_none_of("$lease.token", "int", "long"),
        {"$and": [{"$isNumber": "$lease.token"}, _OUT_OF_RANGE]},
    ]
}
"""What `token_of` calls odd, in the server's words: no comparison finds all of it, least of all in arrays."""


def exactly(expected: Mapping[str, Any]) -> Selection:
    """The condition that fields have these values; 0 is also a missing one, and ODD_TOKEN every token that is none, whoever owns
    the lease."""
    conditions: Selection = {name: {"$in": [0, None]} if value == 0 else {"$eq": value} for name, value in expected.items()}
    if expected.get(_TOKEN) == ODD_TOKEN:
        conditions.pop(_OWNER, None)
        conditions["$expr"] = _ODD_TOKEN
        del conditions[_TOKEN]
    return conditions


def has_exactly(document: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> bool:
    """Whether `exactly` holds for a document."""
    return document is not None and all(
        token_of(document.get("lease")) == value
        if name == _TOKEN
        else (found := value_at(document, name)) == value or (value == 0 and found is None)
        for name, value in expected.items()
    )


def value_at(document: Any, name: str) -> Any:
    """The value at a dotted name; None where there is none."""
    for part in name.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(part)
    return document


def numbers_beginning(text: str) -> Iterator[tuple[float, float]]:
    """Ranges that hold the numbers whose text begins so: from 12 to 13, from 120 to 130, and so on."""
    found = re.fullmatch(r"(-?)(\d{1,19})(\.\d*)?", text, re.ASCII)
    if found is None:
        return
    sign, whole, fraction = found.groups(default="")
    low, unit = Decimal(whole + fraction), Decimal(1).scaleb(-max(0, len(fraction) - 1))
    longer = 0 if fraction or not low else 19
    for power in range(longer + 1):
        first, last = low.scaleb(power), min((low + unit).scaleb(power), Decimal(_LARGEST))
        if first > last:
            return
        ends = [_number(-each if sign else each) for each in (first, last)]
        yield min(ends), max(ends)


def _number(value: Decimal) -> float:
    return int(value) if value == value.to_integral_value() else float(value)
