"""What `execd doctor` asks of an embedded database."""

from __future__ import annotations

import functools
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from typing import Any

from execution_engine.jobs.status import FINAL, Status
from execution_engine.store.inspection import Inspection
from execution_engine.store.job_store import Document
from execution_engine.store.sqlite_rows import COLUMNS, INSERT, Row, new_row, value_of
from execution_engine.store.sqlite_schema import SCHEMAS, listed

Use = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SqliteInspection(Inspection):
    """`reading` and `writing` give the store's connection, the latter in a transaction."""

    def __init__(self, reading: Use, writing: Use) -> None:
        self._reading, self._writing = reading, writing

    def wrong_indexes(self) -> list[str]:
        with self._reading() as connection:
            return [f"{name} {what}" for name, what in _wrong(connection)]

    def make_indexes(self) -> None:
        with self._writing() as connection:
            for name, _ in _wrong(connection):
                connection.execute(f"DROP INDEX IF EXISTS {name}")
                connection.execute(_wanted()[name])

    def try_out(self, *, jobs_only: bool = False) -> None:  # noqa: ARG002 - all is in one file
        row = new_row({"_id": f"trial-{uuid.uuid4().hex}"}, datetime.now(UTC))
        with self._writing() as connection:
            connection.execute(INSERT, row)
            connection.execute("UPDATE jobs SET priority = 1 WHERE id = ?", (row["id"],))
        with self._writing() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))

    def clock(self) -> datetime | None:
        return None

    def unfinished(self) -> Iterator[Document]:
        return self._documents(f"status IN {listed(set(Status) - FINAL)}")

    def without_status(self, most: int) -> int:
        found = "SELECT 1 FROM jobs WHERE status IS NULL LIMIT ?"
        with self._reading() as connection:
            number: int = connection.execute(f"SELECT count(*) FROM ({found})", (most,)).fetchone()[0]
        return number

    def untold(self) -> Iterator[Document]:
        # the + keeps SQLite from looking by status, at all that have ended
        return self._documents(f"due_at IS NOT NULL AND +status IN {listed(FINAL)}")

    def _documents(self, where: str) -> Iterator[Document]:
        with self._reading() as connection:
            for values in connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE {where}"):
                yield Row(values).document()

    def ids(self) -> Iterator[Any]:
        with self._reading() as connection:
            for (text,) in connection.execute("SELECT id FROM jobs"):
                yield value_of(text)


def _wrong(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    there = _indexes(connection)
    return [
        (name, "is another than it must be" if name in there else "is missing")
        for name, statement in _wanted().items()
        if there.get(name) != statement
    ]


@functools.cache
def _wanted() -> dict[str, str]:
    """The indexes of a new database: their names, and the statements that made them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(SCHEMAS))
        return _indexes(connection)


def _indexes(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall())
