"""The tables and indexes of the embedded database, and the queries that the indexes are made for.

A document is in four places: the columns, which are the truth for what they hold (status, due time, lease, request, time of
creation); `app`, the app's own fields, which nothing here rewrites; the table `inputs`, for the one of these that can be large,
read only when it is wanted; and `engine`, the rest of the engine's fields.  `priority`, `not_before`, `lane`, `system`, `owner`,
`project` and the table `tags` are copies for the queries.

The partial indexes hold no ended jobs, but for those that still wait for their notification: what the engine does costs the same
however many jobs have ended.  SQLite uses a partial index only where the query repeats its condition word by word.
"""

from __future__ import annotations

from collections.abc import Iterable

from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.store.changes import MOST_CORES
from execution_engine.store.job_store import REQUESTABLE, Query, Work


def listed(statuses: Iterable[Status]) -> str:
    """The statuses as an SQL list."""
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


_SUBMITTED = " OR ".join(f"status = '{status}'" for status in sorted(ON_SYSTEM | {Status.SUBMITTING}))
"""What the index `jobs_submitted` holds.  For a list with IN, SQLite would make a table for each row that is written."""

_SUBMITTED_HERE = f"jobs INDEXED BY jobs_submitted WHERE lane = :lane AND ({_SUBMITTED})"

ON_SYSTEM_HERE = f"{_SUBMITTED_HERE} AND status <> '{Status.SUBMITTING}'"

FOLLOWED = f"""
SELECT id, status, lease_until, CASE WHEN json_valid(engine) THEN
    json_extract(engine, '$.execution.job_no', '$.execution.name', '$.dir', '$.attempt') END
FROM {ON_SYSTEM_HERE}
"""

_NATIVE_ID = "CASE WHEN json_valid(engine) THEN json_extract(engine, '$.execution.job_no') ELSE 'unreadable' END"
"""Of a job that cannot be read it is taken to be there."""

TAKEN_CORES = f"""
SELECT coalesce(sum(CASE WHEN json_valid(app) THEN min({MOST_CORES}, max(1, CAST(coalesce(
    json_extract(app, '$.resources.cores."$numberLong"'), json_extract(app, '$.resources.cores'), 1) AS INTEGER))) ELSE 1 END), 0)
FROM {_SUBMITTED_HERE}
AND ({_NATIVE_ID} IS NOT NULL OR lease_until > :now)
"""
"""A number of cores that is none counts as one; a job that cannot be read is taken to be there."""

LANES = f"""
SELECT lane, status, count(*) FROM jobs WHERE status IN {listed(set(Status) - FINAL)} AND lane IS NOT NULL GROUP BY lane, status
"""

_JOBS = f"""
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    text_id TEXT NOT NULL,
    status TEXT,
    due_at INTEGER,
    created INTEGER NOT NULL,
    request TEXT,
    lease_owner TEXT,
    lease_token INTEGER NOT NULL,
    lease_until INTEGER,
    crashes INTEGER NOT NULL,
    crash TEXT NOT NULL,
    priority NUMERIC NOT NULL,
    not_before INTEGER,
    lane TEXT,
    system TEXT,
    owner TEXT,
    project TEXT,
    engine TEXT NOT NULL,
    app TEXT NOT NULL,
    inputs TEXT
);
CREATE INDEX jobs_to_build ON jobs (priority DESC, seq) WHERE status = 'to be built' AND due_at IS NULL;
CREATE INDEX jobs_to_submit ON jobs (lane, priority DESC, created, seq) WHERE status = 'to be submitted' AND due_at IS NULL;
CREATE INDEX jobs_timed ON jobs (due_at, status, lane) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_requested ON jobs (lane, lease_until) WHERE request IS NOT NULL;
CREATE INDEX jobs_leased ON jobs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX jobs_on_system ON jobs (lane) WHERE status IN {listed(ON_SYSTEM | {Status.SUBMITTING})};
CREATE INDEX jobs_status ON jobs (status, created);
CREATE INDEX jobs_created ON jobs (created);
CREATE INDEX jobs_text_id ON jobs (text_id);
"""

_ENGINES_AND_EVENTS = """
CREATE TABLE engines (id TEXT PRIMARY KEY, beats INTEGER NOT NULL, record TEXT NOT NULL);
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    engine TEXT NOT NULL,
    jobs TEXT NOT NULL,
    facts TEXT NOT NULL
);
CREATE INDEX events_at ON events (at, id);
CREATE TABLE events_of_jobs (job TEXT NOT NULL, at INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (job, at, id)) WITHOUT ROWID;
CREATE INDEX events_of_jobs_at ON events_of_jobs (at);
"""

_QUICKER_INDEX = f"""
DROP INDEX jobs_on_system;
CREATE INDEX jobs_submitted ON jobs (lane) WHERE {_SUBMITTED};
"""

_APART = """
CREATE TABLE inputs (seq INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT INTO inputs SELECT seq, inputs FROM jobs WHERE inputs IS NOT NULL;
ALTER TABLE jobs DROP COLUMN inputs;
CREATE TABLE tags (
    tag TEXT NOT NULL,
    created INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (tag, created, seq)
) WITHOUT ROWID;
INSERT OR IGNORE INTO tags
    SELECT each.value, jobs.created, jobs.seq
    FROM jobs, json_each(CASE WHEN json_valid(jobs.app) THEN jobs.app ELSE '{}' END, '$.tags') AS each
    WHERE each.type = 'text' AND each.path = '$.tags';
CREATE INDEX jobs_owner ON jobs (owner, created);
CREATE INDEX jobs_project ON jobs (project, created);
CREATE INDEX jobs_system ON jobs (system, created) WHERE system IS NOT NULL;
"""
"""Inputs in a table of their own: SQLite writes a whole row anew whatever of it changes, and at each step of a job something
does."""

SCHEMAS = (_JOBS, _ENGINES_AND_EVENTS, _QUICKER_INDEX, _APART)
"""What makes a database of version 1 of an empty one, of version 2 of that, and so on; each is left as it was once released."""

VERSION = len(SCHEMAS)

_BY_INSERTION = "ORDER BY priority DESC, seq"
_BY_AGE = "ORDER BY priority DESC, created, seq"

CLAIMABLE: dict[Work, tuple[tuple[str, str], ...]] = {
    Work.BUILDING: (
        (
            "jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN ('to be built', 'building')",
            "ORDER BY status = 'to be built', priority DESC, seq",
        ),
        ("jobs INDEXED BY jobs_to_build WHERE status = 'to be built' AND due_at IS NULL", _BY_INSERTION),
    ),
    Work.SUBMIT: (
        (
            "jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN ('to be submitted', 'submitting') AND lane = :lane",
            "ORDER BY status = 'to be submitted', priority DESC, created, seq",
        ),
        ("jobs INDEXED BY jobs_to_submit WHERE status = 'to be submitted' AND lane = :lane AND due_at IS NULL", _BY_AGE),
    ),
    Work.REQUEST: (
        (
            f"jobs INDEXED BY jobs_requested WHERE request IS NOT NULL AND lane IS :lane AND {_NATIVE_ID} IS NOT NULL"
            f" AND (lease_until IS NULL OR lease_until <= :now) AND status IN {listed(REQUESTABLE - FINAL)}",
            _BY_AGE,
        ),
        (
            f"jobs INDEXED BY jobs_requested WHERE request IS NOT NULL AND :lane IS NULL AND {_NATIVE_ID} IS NULL"
            f" AND (lease_until IS NULL OR lease_until <= :now) AND status IN {listed(REQUESTABLE - FINAL)}",
            _BY_AGE,
        ),
        (
            "jobs INDEXED BY jobs_requested WHERE request IS NOT NULL AND :lane IS NULL"
            f" AND (lease_until IS NULL OR lease_until <= :now) AND status IN {listed(FINAL)}",
            _BY_AGE,
        ),
    ),
    Work.NOTIFICATION: ((f"jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN {listed(FINAL)}", _BY_AGE),),
}
"""For each kind of work, where its jobs are found, and in which order.  Those that an actor had begun when it died come first,
also where there is no room for all."""

NEXT_MOMENT = """
SELECT min(moment) FROM (
    SELECT min(due_at) AS moment FROM jobs INDEXED BY jobs_timed WHERE due_at > :now
    UNION ALL SELECT min(lease_until) FROM jobs INDEXED BY jobs_requested WHERE request IS NOT NULL AND lease_until > :now
)
"""
"""When, if nobody writes, a job becomes due next."""


def due_questions(query: Query) -> list[str]:
    """Questions, the answer to one of which is a row if the query has a job that is due."""
    return [f"SELECT 1 FROM {where} LIMIT 1" for where, _ in CLAIMABLE[query.work]]
