"""The journal in the embedded database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from execution_engine.store import extended_json
from execution_engine.store.journal import Entry, Journal
from execution_engine.store.sqlite_engines import Using
from execution_engine.store.sqlite_rows import milliseconds, moment_of

_LATEST = "ORDER BY at DESC, id DESC LIMIT :limit"
_OLDEST = "(SELECT at, id FROM events WHERE at < :before ORDER BY at, id LIMIT :limit)"


class SqliteJournal(Journal):
    """A row for each entry, and one for each job that it concerns.  `reading` and `writing`: the job store's connection."""

    def __init__(self, reading: Using, writing: Using) -> None:
        self._reading = reading
        self._writing = writing

    def append(self, entries: Sequence[Entry]) -> None:
        rows = [
            (entry.id, milliseconds(entry.at), entry.event, entry.engine, *map(extended_json.write, (entry.jobs, entry.facts)))
            for entry in entries
        ]
        concerned = [(job, milliseconds(entry.at), entry.id) for entry in entries for job in entry.jobs]
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO events (id, at, event, engine, jobs, facts) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
            connection.executemany("INSERT OR IGNORE INTO events_of_jobs (job, at, id) VALUES (?, ?, ?)", concerned)

    def select(
        self, job: str | None = None, since: datetime | None = None, limit: int = 0, events: Collection[str] = ()
    ) -> list[Entry]:
        source = "events WHERE at >= :since"
        if job is not None:
            source = "events_of_jobs JOIN events USING (id, at) WHERE job = :job AND at >= :since"
        if events:
            source += " AND event IN (SELECT value FROM json_each(:events))"
        query = f"SELECT id, at, event, engine, jobs, facts FROM {source} {_LATEST}"
        with self._reading() as connection:
            names = extended_json.write(list(events))
            wanted = {"job": job, "since": milliseconds(since) or 0, "limit": limit or -1, "events": names}
            rows = connection.execute(query, wanted).fetchall()
        return [_entry(row) for row in reversed(rows)]

    def expire(self, before: datetime, limit: int) -> int:
        which = {"before": milliseconds(before), "limit": limit}
        with self._writing() as connection:
            connection.execute(
                f"DELETE FROM events_of_jobs WHERE at <= (SELECT max(at) FROM {_OLDEST}) AND id IN (SELECT id FROM {_OLDEST})",
                which,
            )
            return connection.execute(f"DELETE FROM events WHERE id IN (SELECT id FROM {_OLDEST})", which).rowcount


def _entry(row: tuple[Any, ...]) -> Entry:
    entry_id, at, event, engine, jobs, facts = row
    moment = moment_of(at)
    assert moment is not None
    return Entry(moment, event, engine, tuple(extended_json.read(jobs)), extended_json.read(facts), entry_id)
