"""Whatever a document holds, the commands that show jobs show it: no traceback, and the jobs beside it as ever."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from execution_engine.cli.explain import explain
from execution_engine.cli.show import print_explanation, print_job
from execution_engine.config import Database
from execution_engine.jobs.status import Status
from tests.support.commands import CommandLine

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=UTC)
ODD: list[Any] = [
    None,
    True,
    {},
    [],
    {"a": {"b": []}},
    [[], {}, None, 5],
    b"\x00\xff",
    Binary(b"\x00\xff", 5),
    "",
    "\x1b[2J\n\u202e",
    "\ud800",
    "x" * 3000,
    0,
    -1,
    1 << 62,
    -(1 << 63),
    Int64(7),
    1e300,
    math.nan,
    math.inf,
    -math.inf,
    Decimal128("1E6000"),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    NOW.replace(tzinfo=None),
    ObjectId(),
    Regex("x"),
    Code("x"),
    Timestamp(1, 1),
    MinKey(),
    MaxKey(),
]
WHOLE: dict[str, Any] = {
    "_id": "whole",
    "status": "error",
    "command": ["sort", "a b"],
    "name": "n",
    "project": "p",
    "owner": "o",
    "inputs": {"a": "b"},
    "outputs": ["*"],
    "env": {"A": "b"},
    "resources": {"cores": 1, "memory": "1G", "walltime": "1h", "gpus": 0, "native": ""},
    "priority": 0,
    "not_before": NOW,
    "notify": ["a"],
    "tags": ["t"],
    "request": "kill",
    "schema": 1,
    "dir": "/nonexistent",
    "lease": {"owner": "x", "token": 1, "until": NOW, "crashes": 0, "crash": "c"},
    "due_at": NOW + timedelta(days=1),
    "attempt": 2,
    "attempts": [
        {"attempt": 1, "status": "error", "exit": {"code": 1}, "times": {"ended": NOW}, "execution": {"system": "here"}}
    ],
    "execution": {
        "route": "r",
        "system": "here",
        "lane": "here@x",
        "host": "x",
        "name": "n",
        "job_no": "1",
        "why": [{"route": "r", "rule": "u", "answer": False, "error": "e"}],
    },
    "times": dict.fromkeys(("created", "built", "submitted", "started", "ended", "notified"), NOW),
    "exit": {"code": 1, "signal": "SIGTERM", "reason": "memory"},
    "usage": {"wall": 1.5, "cpu": 1.0, "memory": 10, "host": "x"},
    "results": [{"path": "a", "size": 1}],
    "error": {"kind": "memory", "message": "m", "details": None},
    "requested": {"what": "kill", "at": NOW, "why": "w", "sent": True},
    "refused": {"what": "kill", "at": NOW, "why": "w"},
    "history": [{"status": "error", "at": NOW, "by": "b", "why": "w"}],
    "notified": {"a": {"at": NOW, "attempts": 1, "error": None}},
}
ENGINE = {
    "systems": {"here": {"ok": True, "lane": "here@x", "slots": 2, "active": 1, "waiting": 1}},
    "elsewhere": {},
    "outages": [],
}


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*at, key))


def _with(path: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    document = deepcopy(WHOLE)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return document


@pytest.mark.parametrize("path", list(_paths(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_a_job_with_an_odd_value_anywhere_is_shown_and_explained(path: tuple[Any, ...], capsys: pytest.CaptureFixture[str]):
    for odd in ODD:
        for status in ("error", "running", "to be submitted"):
            document = (
                {**WHOLE, "status": status, **_with(path, odd)} if path == ("status",) else _with(path, odd) | {"status": status}
            )
            for engine in (None, ENGINE):
                print_explanation(explain(document, NOW, engine))
            print_job(document, NOW)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_odd_statuses_and_names_are_listed_counted_shown_and_explained(short_dir: Path):
    _look_at_odd_documents(CommandLine(short_dir / "site"))


def test_the_same_on_mongodb(short_dir: Path, mongodb_database: Database):
    _look_at_odd_documents(CommandLine(short_dir / "site", mongodb_database))


def _look_at_odd_documents(execd: CommandLine) -> None:
    """By each command that reads, with a good job beside them."""
    with execd.client() as client:
        (good,) = client.submit([{"command": "true", "name": "good"}])
        storable = [odd for odd in ODD if odd != "\ud800"]
        client.store.insert([WHOLE | {"_id": f"status{number}", "status": odd} for number, odd in enumerate(storable)])
        client.store.insert([WHOLE | {"_id": f"name{number}", "name": odd, "times": odd} for number, odd in enumerate(storable)])
    listed = execd("jobs").stdout
    assert str(good) in listed
    assert {job["_id"] for job in execd.json("jobs")} >= {str(good), *(f"status{number}" for number in range(len(storable)))}
    assert json.loads(execd("status", "--json").stdout)["jobs"][Status.TO_BE_BUILT] == 1
    assert execd("status").exit_code == 3
    assert execd("events").exit_code == 0
    for number in range(len(storable)):
        for kind in ("status", "name"):
            for command in ("show", "explain"):
                assert execd(command, f"{kind}{number}").exit_code == 0, (command, storable[number])
                execd.json(command, f"{kind}{number}")
            assert execd("logs", f"{kind}{number}").exit_code == 1
    waited = execd("wait", "status2", "--timeout", "0.1")
    assert waited.exit_code == 1
    assert execd("kill", "status2").exit_code == 1
    assert execd("doctor").exit_code in (0, 1)
