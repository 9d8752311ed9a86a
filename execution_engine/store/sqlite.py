"""The job store in an embedded SQLite file, for one machine without a database server."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bson import ObjectId

from execution_engine.clock import Clock
from execution_engine.errors import StoreError
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.recovery import BEGUN
from execution_engine.jobs.status import FINAL, RETRIES, RETRY, Status
from execution_engine.store import changes, extended_json, sqlite_finding, sqlite_reading
from execution_engine.store.inspection import Inspection
from execution_engine.store.job_store import (
    CLAIMS,
    MOST_AT_ONCE,
    BrokenJob,
    Change,
    Claimed,
    Cores,
    Document,
    Filter,
    JobStore,
    Query,
    Work,
)
from execution_engine.store.sqlite_engines import SqliteEngineRegistry
from execution_engine.store.sqlite_file import DatabaseFile
from execution_engine.store.sqlite_inspection import SqliteInspection
from execution_engine.store.sqlite_journal import SqliteJournal
from execution_engine.store.sqlite_rows import (
    INSERT,
    INSERT_INPUTS,
    INSERT_TAG,
    Misfit,
    Row,
    followed_of,
    milliseconds,
    new_row,
    value_of,
)
from execution_engine.store.sqlite_schema import (
    CLAIMABLE,
    FOLLOWED,
    LANES,
    NEXT_MOMENT,
    ON_SYSTEM_HERE,
    TAKEN_CORES,
    due_questions,
    listed,
)

_NOT_ENDED = f"(status IS NULL OR status NOT IN {listed(FINAL)})"
_RETRIABLE = f"status IN {listed(RETRIES)}"


class SqliteJobStore(JobStore):
    """Jobs in an SQLite file (WAL, mode 0600).  Every method that writes is one transaction."""

    def __init__(self, path: Path, clock: Clock, busy_timeout: float = 30.0) -> None:
        self._clock = clock
        self._file = DatabaseFile(path, busy_timeout)
        self._reading, self._writing = self._file.reading, self._file.writing
        self._last_look: tuple[Any, ...] = ()
        self._last_due: set[Query] = set()
        self._next_moment: int | None = None
        self.engines = SqliteEngineRegistry(self._reading, self._writing)
        self.journal = SqliteJournal(self._reading, self._writing)

    @property
    def identity(self) -> str:
        return self._file.identity

    def boot(self, *, create: bool = False, identity: str = "") -> None:
        self._file.open(create=create, identity=identity)

    def close(self) -> None:
        self._file.close()
        self._last_look = ()

    # --- the app's side

    def insert(self, documents: Sequence[Document]) -> list[Any]:
        for document in documents:
            document.setdefault("_id", ObjectId())
        now = self._clock.now()
        rows = [new_row(document, now) for document in documents]
        with self._writing() as connection:
            try:
                connection.executemany(INSERT, rows)
                connection.executemany(INSERT_INPUTS, [row for row in rows if row["inputs"] is not None])
                connection.executemany(INSERT_TAG, [{"id": row["id"], "tag": tag} for row in rows for tag in row["tags"]])
            except sqlite3.IntegrityError:
                raise StoreError("a job with one of these ids is there already; none of the jobs was stored") from None
        return [document["_id"] for document in documents]

    def request(self, ids: Collection[Any], what: str) -> list[Any]:
        texts = {extended_json.id_text(job_id): job_id for job_id in ids}
        among = f"id IN (SELECT value FROM json_each(?)) AND {_RETRIABLE if what == RETRY else _NOT_ENDED}"
        with self._writing() as connection:
            found = connection.execute(
                f"UPDATE jobs SET request = ? WHERE {among} RETURNING id", (what, extended_json.write(list(texts)))
            ).fetchall()
        return [texts[text] for (text,) in found]

    # --- the engine's side

    def due(self, queries: Iterable[Query], now: datetime) -> set[Query]:
        wanted = frozenset(queries)
        moment = milliseconds(now)
        assert moment is not None
        with self._reading() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            look = (wanted, version, connection.total_changes)
            if look != self._last_look or (self._next_moment is not None and moment >= self._next_moment):
                self._last_due = {query for query in wanted if self._is_due(connection, query, moment)}
                (self._next_moment,) = connection.execute(NEXT_MOMENT, {"now": moment}).fetchone()
                self._last_look = look
        return set(self._last_due)

    def claim(
        self, query: Query, owner: str, limit: int, now: datetime, until: datetime, cores: Cores | None = None
    ) -> list[Claimed]:
        claimed: list[tuple[Row, Status]] = []
        condemned: list[tuple[Any, Document]] = []
        with self._writing() as connection:
            rows = self._chosen(connection, query, limit, now, cores)
            for row in rows:
                was = Status(str(row.status))
                try:
                    row.lease(owner, until)
                    if was in CLAIMS.get(query.work, {}) and CLAIMS[query.work][was] is not was:
                        row.become(CLAIMS[query.work][was], now, owner)
                except Misfit as error:
                    condemned.append(row.condemn(now, owner, str(error)))
                else:
                    claimed.append((row, was))
            sqlite_reading.save(connection, rows)
            inputs = sqlite_reading.inputs(connection, rows) if query.work is Work.BUILDING else {}
        _tell(condemned)
        given = ((row, was, inputs.get(row.seq, "")) for row, was in claimed)
        return [Claimed(changes.job_of(row.document(text or None)), was, text is None) for row, was, text in given]

    def claim_one(self, job_id: Any, owner: str, now: datetime, until: datetime) -> Job | None:
        with self._writing() as connection:
            row = sqlite_reading.row(connection, job_id)
            if row is None or (row.lease_owner != owner and (row.lease_until or 0) > (milliseconds(now) or 0)):
                return None
            job = changes.job_of(row.document()) if changes.known_status(row.status) else None
            if not isinstance(job, Job):
                return None
            row.lease(owner, until)
            sqlite_reading.save(connection, [row])
        job = changes.job_of(row.document())
        return job if isinstance(job, Job) else None

    def whole(self, job: Job) -> Job | BrokenJob | None:
        row, inputs = self._whole(job.id)
        return changes.job_of(row.document(inputs)) if row is not None and row.is_as_known(job) else None

    def renew(self, owner: str, until: datetime) -> int:
        moment = milliseconds(until)
        with self._writing() as connection:
            return connection.execute(
                "UPDATE jobs SET lease_until = ?, due_at = ? WHERE lease_owner = ?", (moment, moment, owner)
            ).rowcount

    def release(
        self, owner: str, now: datetime, crash: str | None = None, retry_at: datetime | None = None
    ) -> list[Job | BrokenJob]:
        where: str
        parameters: tuple[str, ...]
        if owner.endswith("*"):
            where, parameters = "lease_owner >= ? AND lease_owner < ? || char(0x10ffff)", (owner[:-1],) * 2
        else:
            where, parameters = "lease_owner = ?", (owner,)
        with self._writing() as connection:
            rows = sqlite_reading.rows(connection, f"jobs WHERE {where}", parameters)
            for row in rows:
                times = row.engine.get("times")
                notified = times.get("notified") if isinstance(times, dict) else None
                status = changes.known_status(row.status)
                due_at = changes.due_after_release(status, notified, retry_at or now) if status else None
                row.free(due_at, crash)
            sqlite_reading.save(connection, rows)
        return changes.jobs_of(row.document() for row in rows)

    def apply(self, changes_: Sequence[Change], by: str, now: datetime) -> set[str]:
        changes.check(changes_)
        lost: set[str] = set()
        condemned: list[tuple[Any, Document]] = []
        changed: list[Row] = []
        ids = [extended_json.id_text(change.job.id) for change in changes_]
        with self._writing() as connection:
            found = sqlite_reading.rows(
                connection, "jobs WHERE id IN (SELECT value FROM json_each(?))", (extended_json.write(ids),)
            )
            rows = {row.id: row for row in found}
            for job_id, change in zip(ids, changes_, strict=True):
                row = rows.get(job_id)
                if row is None or not row.is_as_known(change.job):
                    lost.add(str(change.job.id))
                    continue
                try:
                    row.change(change, now, by)
                except Misfit as error:
                    condemned.append(row.condemn(now, by, str(error)))
                changed.append(row)
            sqlite_reading.save(connection, changed)
        _tell(condemned)
        return lost

    def followed(self, lane: str) -> list[Followed]:
        with self._reading() as connection:
            return [followed_of(values) for values in connection.execute(FOLLOWED, {"lane": lane})]

    def on_system(self, lane: str, among: Collection[Any] | None = None) -> list[Job]:
        where, texts = ON_SYSTEM_HERE, ""
        if among is not None:
            where = f"{ON_SYSTEM_HERE} AND id IN (SELECT value FROM json_each(:ids))"
            texts = extended_json.write([extended_json.id_text(job_id) for job_id in among])
        with self._reading() as connection:
            rows = sqlite_reading.rows(connection, where, {"lane": lane, "ids": texts})
        return [job for row in rows if (job := changes.job_on_system(row.document())) is not None]

    def taken_cores(self, lane: str, now: datetime) -> int:
        with self._reading() as connection:
            (cores,) = connection.execute(TAKEN_CORES, {"lane": lane, "now": milliseconds(now)}).fetchone()
        return int(cores)

    # --- asking

    def get(self, job_id: Any) -> Document | None:
        row, inputs = self._whole(job_id)
        return None if row is None else row.document(inputs)

    def resolve(self, text: str) -> Any:
        with self._reading() as connection:
            exact = connection.execute("SELECT id FROM jobs WHERE text_id = ? LIMIT 6", (text,)).fetchall()
            beginning = connection.execute(
                "SELECT id FROM jobs WHERE text_id >= ? AND text_id < ? || char(0x10ffff) ORDER BY text_id LIMIT 6", (text, text)
            ).fetchall()
        ids = [[value_of(found) for (found,) in rows] for rows in (exact, beginning)]
        return changes.only_one(text, *ids)

    def find(self, selection: Filter, limit: int = 0, fields: Collection[str] | None = None) -> Iterator[Document]:
        return sqlite_finding.found(self._reading, selection, limit, fields)

    def statuses(self, ids: Collection[Any]) -> dict[Any, Status]:
        texts = {extended_json.id_text(job_id): job_id for job_id in ids}
        with self._reading() as connection:
            found = connection.execute(
                "SELECT id, status, request FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
                (extended_json.write(list(texts)),),
            ).fetchall()
        coming = {texts[text]: changes.coming_status(status, request) for text, status, request in found}
        return {job_id: status for job_id, status in coming.items() if status is not None}

    def count(self) -> dict[str, int]:
        with self._reading() as connection:
            found = connection.execute("SELECT status, count(*) FROM jobs WHERE status IS NOT NULL GROUP BY status").fetchall()
        return dict(found)

    def lanes(self) -> dict[str, dict[str, int]]:
        lanes: dict[str, dict[str, int]] = {}
        with self._reading() as connection:
            for lane, status, number in connection.execute(LANES):
                lanes.setdefault(lane, {})[status] = number
        return lanes

    def ping(self) -> str:
        with self._reading() as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return f"SQLite {sqlite3.sqlite_version}, {self._file.path}"

    @property
    def inspection(self) -> Inspection:
        return SqliteInspection(self._reading, self._writing)

    # --- rows

    def _whole(self, job_id: Any) -> tuple[Row | None, str | None]:
        with self._reading() as connection:
            return sqlite_reading.whole(connection, job_id)

    def _is_due(self, connection: sqlite3.Connection, query: Query, moment: int) -> bool:
        parameters = {"now": moment, "lane": query.lane}
        return any(connection.execute(question, parameters).fetchone() for question in due_questions(query))

    def _chosen(self, connection: sqlite3.Connection, query: Query, limit: int, now: datetime, cores: Cores | None) -> list[Row]:
        """The rows that a claim takes.  Jobs whose `not_before` has not come are postponed on the way."""
        moment = milliseconds(now) or 0
        parameters = {"now": moment, "lane": query.lane, "limit": limit}
        while True:
            rows: list[Row] = []
            room = MOST_AT_ONCE
            for where, order in CLAIMABLE[query.work]:
                found, room = sqlite_reading.rows_that_fit(connection, f"{where} {order} LIMIT :limit", parameters, room)
                rows += found
            early = [row for row in rows if query.work is Work.BUILDING and (row.not_before or 0) > moment]
            if not early:
                break
            connection.executemany("UPDATE jobs SET due_at = not_before WHERE seq = ?", [(row.seq,) for row in early])
        by_insertion = query.work is Work.BUILDING
        candidates = [
            changes.Candidate(
                handle=row,
                priority=row.priority,
                created=row.seq if by_insertion else row.created,
                crashes=row.crashes,
                cores=1 if cores is None else changes.cores_of(row.app),
                begun=row.status in BEGUN,
            )
            for row in rows
        ]
        return [candidate.handle for candidate in changes.choose(candidates, limit, cores)]


def _tell(condemned: Iterable[tuple[Any, Document]]) -> None:
    for job_id, fields in condemned:
        changes.tell_condemned(job_id, fields)
