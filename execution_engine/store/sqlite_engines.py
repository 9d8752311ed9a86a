"""The registry of engines in the embedded database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict

from execution_engine.store import extended_json
from execution_engine.store.engine_registry import EngineRecord, EngineRegistry

Using = Callable[[], AbstractContextManager[sqlite3.Connection]]


class SqliteEngineRegistry(EngineRegistry):
    """A row for each engine.  `reading` and `writing` give the job store's connection, the latter in a transaction."""

    def __init__(self, reading: Using, writing: Using) -> None:
        self._reading = reading
        self._writing = writing

    def sign_in(self, record: EngineRecord) -> None:
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO engines (id, beats, record) VALUES (?, ?, ?)", _row(record))

    def beat(self, record: EngineRecord) -> bool:
        engine, beats, text = _row(record)
        with self._writing() as connection:
            return connection.execute("UPDATE engines SET beats = ?, record = ? WHERE id = ?", (beats, text, engine)).rowcount > 0

    def all(self) -> list[EngineRecord]:
        with self._reading() as connection:
            found = [extended_json.read(text) for (text,) in connection.execute("SELECT record FROM engines").fetchall()]
        return sorted(map(EngineRecord.of, found), key=lambda record: (record.started, record.id))

    def sign_out(self, engine: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM engines WHERE id = ?", (engine,))

    def declare_dead(self, engine: str, beats: int) -> bool:
        with self._writing() as connection:
            return connection.execute("DELETE FROM engines WHERE id = ? AND beats = ?", (engine, beats)).rowcount > 0


def _row(record: EngineRecord) -> tuple[str, int, str]:
    return record.id, record.beats, extended_json.write(asdict(record))
