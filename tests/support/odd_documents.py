"""Job documents with an odd or extreme value in one of the fields that belong to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from itertools import count, product
from typing import Any

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from execution_engine.jobs.recovery import BEGUN
from execution_engine.jobs.status import Status

Document = dict[str, Any]

_LARGEST = Int64(2**63 - 1)

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    7,
    2**31,
    2**53,
    _LARGEST,
    Int64(-(2**63)),
    3.0,
    2.5,
    -1e300,
    float("nan"),
    float("inf"),
    Decimal128("1E+6000"),
    "",
    "a word",
    "x\0y",
    "ü" * 20_000,
    [],
    ["here"],
    [None, 5, {"a": 1}],
    [{"status": "running", "token": 1, "owner": "x", "at": 5}],
    {},
    {"a": {"b": []}},
    {"status": 5, "at": "never", "token": _LARGEST},
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    DatetimeMS(2**62),
    ObjectId(),
    Binary(b"\xff\x00"),
    Regex("^.*$"),
    Timestamp(2**32 - 1, 1),
    MinKey(),
    MaxKey(),
    Code("while (true);"),
)
"""Every type of BSON, and the extremes of most."""

FIELDS = (
    *("schema", "dir", "lease", "lease.owner", "lease.token", "lease.until", "lease.crashes", "lease.crash", "due_at", "attempt"),
    *("attempts", "execution", "execution.lane", "execution.name", "execution.job_no", "execution.why", "execution.system"),
    *("times", "times.created", "times.started", "times.ended", "times.notified", "exit", "usage", "results", "error"),
    *("requested", "refused", "history", "notified", "request", "priority", "not_before", "resources.cores", "status"),
)
"""All that the engine writes or goes by, beside the id."""

_REQUESTS = (None, "kill", "retry", "hold", None, "release", "resume")


def odd_documents(number: int, lane: str, directory: str) -> Iterator[Document]:
    """So many documents of jobs of the lane, without ids; each field gets each value, in one status after the other."""
    statuses = tuple(Status)
    cases = list(product(FIELDS, VALUES))
    for each in range(number):
        field, value = cases[each % len(cases)]
        turn = each // len(cases)
        status = statuses[(each * 5 + turn * 3) % len(statuses)]
        document = _ordinary(status, _REQUESTS[(each + turn) % len(_REQUESTS)], lane, f"{directory}/{each}")
        _put(document, field, [status.value] if field == "status" and value == ["here"] else deepcopy(value))
        yield document


def _ordinary(status: Status, request: str | None, lane: str, directory: str) -> Document:
    """A document as the engine might have left it, of a job that its system does not have any more."""
    moment = datetime(2024, 2, 29, tzinfo=UTC)
    return {
        "status": status.value,
        "command": ["true"],
        "name": "odd",
        "resources": {"cores": 1},
        **({"request": request} if request else {}),
        "schema": 1,
        "dir": directory,
        "attempt": 1,
        "attempts": [],
        "lease": {"owner": None, "token": 3, "until": None, "crashes": 0, "crash": ""},
        "due_at": moment if status in BEGUN else None,
        "execution": {
            "route": "default",
            "system": "here",
            "lane": lane,
            "host": "nobody",
            "name": f"execd-{directory.rpartition('/')[2]}-1",
            "job_no": "999999999.1",
            "why": [],
        },
        "times": {"created": moment, "built": moment},
        "results": [],
        "history": [{"status": "building", "at": moment, "by": "gone/1", "why": ""}],
        "notified": {},
    }


def _put(document: Document, field: str, value: Any) -> None:
    top, _, rest = field.partition(".")
    if rest:
        document[top] = {**document.get(top, {}), rest: value}
    else:
        document[top] = value


IDS: tuple[Any, ...] = (
    *(None, True, 2**31, _LARGEST, Int64(-(2**63)), 2.5, float("nan"), float("inf"), Decimal128("1E+6000"), "", "a/../b"),
    *("x\0y", "ü" * 300, {"a": 1}, {}, datetime(1, 1, 1, tzinfo=UTC), DatetimeMS(2**62), Binary(b"\xff\x00")),
    *(Binary(b"1234567890123456", 4), Timestamp(2**32 - 1, 1), MinKey(), MaxKey(), Code("x")),
)
"""Ids of every type that a server takes."""


def with_odd_ids(lane: str, directory: str) -> Iterator[Document]:
    """A document for each odd id and status, as far as ids can be as many."""
    numbers, statuses = count(), tuple(Status)
    for job_id in IDS:
        number = next(numbers)
        yield {**_ordinary(statuses[number * 3 % len(statuses)], None, lane, f"{directory}/id-{number}"), "_id": job_id}
