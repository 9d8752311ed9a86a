"""What the commands that ask something of the engine select, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bson import ObjectId

from execution_engine.cli.context import Session
from execution_engine.cli.requests import _request, _selected

CONDITIONS = {"statuses": (), "owner": "alice", "project": None, "system": None, "tag": None, "since": None}


class _Client:
    """Of whose jobs the second is passed over once, because it is just being taken up."""

    def __init__(self, ids: list[Any]) -> None:
        self.store, self.ids, self.looks = self, ids, 0

    def find(self, _selection: Any, **_: Any) -> Iterator[dict[str, Any]]:
        self.looks += 1
        return iter([{"_id": one} for number, one in enumerate(self.ids) if number != 1 or self.looks > 1])

    def request(self, ids: list[Any], _what: str) -> list[Any]:
        return list(ids)

    def statuses(self, _ids: list[Any]) -> dict[Any, Any]:
        return {}


def test_a_job_that_is_taken_up_while_the_jobs_are_looked_through_is_asked_too() -> None:
    client: Any = _Client(["a", "b", "c"])
    assert sorted(_selected(Session(Path("none")), client, "kill", CONDITIONS, ask=False)) == ["a", "b", "c"]


def test_many_jobs_are_asked_at_once() -> None:
    client: Any = _Client([ObjectId() for _ in range(20_000)])
    began = time.monotonic()
    _request(client, "kill", client.ids, as_json=True)
    assert time.monotonic() - began < 5
