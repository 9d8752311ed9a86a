"""Rows of the embedded database are read and saved, within a connection's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from execution_engine.store import extended_json
from execution_engine.store.job_store import SMALL_INPUTS
from execution_engine.store.sqlite_rows import COLUMNS, INPUTS, SAVE, Row


def rows(connection: sqlite3.Connection, source: str, parameters: Any) -> list[Row]:
    """All rows of a source (a table, and its conditions)."""
    return [Row(values) for values in connection.execute(f"SELECT {COLUMNS} FROM {source}", parameters).fetchall()]


def rows_that_fit(connection: sqlite3.Connection, source: str, parameters: Any, room: int) -> tuple[list[Row], int]:
    """As many rows as there is room for, in bytes, and the room that is left; the one that exceeds it is the last."""
    found: list[Row] = []
    with closing(connection.execute(f"SELECT {COLUMNS} FROM {source}", parameters)) as cursor:
        for values in cursor:
            if room <= 0:
                break
            found.append(Row(values))
            room -= sum(len(text) for text in values if isinstance(text, str))
    return found, room


def row(connection: sqlite3.Connection, job_id: Any) -> Row | None:
    """The row of a job."""
    found = rows(connection, "jobs WHERE id = ?", (extended_json.id_text(job_id),))
    return found[0] if found else None


def whole(connection: sqlite3.Connection, job_id: Any) -> tuple[Row | None, str | None]:
    """The row of a job, and the text of its inputs."""
    question = f"SELECT {COLUMNS}, {INPUTS} FROM jobs WHERE id = ?"
    found = connection.execute(question, (extended_json.id_text(job_id),)).fetchone()
    return (None, None) if found is None else (Row(found[:-1]), found[-1])


def inputs(connection: sqlite3.Connection, among: Iterable[Row]) -> dict[int, str | None]:
    """The texts of the inputs of these rows' jobs that have some, by `seq`; None for what is large beside the others."""
    numbers = (extended_json.write([one.seq for one in among]),)
    selected = "FROM inputs WHERE seq IN (SELECT value FROM json_each(?))"
    found: dict[int, str | None] = {}
    room = SMALL_INPUTS
    with closing(connection.execute(f"SELECT seq, text {selected}", numbers)) as cursor:
        for seq, text in cursor:
            room -= len(text)
            if room < 0:
                break
            found[seq] = text
    if room < 0:
        found = {**{seq: None for (seq,) in connection.execute(f"SELECT seq {selected}", numbers)}, **found}
    return found


def save(connection: sqlite3.Connection, changed: Iterable[Row]) -> None:
    """Stores the rows as they are now."""
    connection.executemany(SAVE, [one.saved() for one in changed])
