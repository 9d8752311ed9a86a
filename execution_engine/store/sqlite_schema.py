"""The tables and indexes of the embedded database, and the queries that the indexes are made for.

A row holds a document in four places: the columns, which are the truth for what they hold (status, due time, lease, request, time
of creation); `app`, the app's own fields, which nothing here rewrites; `inputs`, the one of these that can be large, read only
when it is wanted; and `engine`, the rest of the engine's fields.  `priority`, `not_before`, `lane`, `system`, `owner` and
`project` are copies for the queries.

The partial indexes hold no ended jobs, but for those that still wait for their notification: what the engine does costs the same
however many jobs have ended.  SQLite uses a partial index only where the query repeats its condition word by word.
"""

from __future__ import annotations

from collections.abc import Iterable

from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.store.job_store import REQUESTABLE, Query, Work

VERSION = 1


def _listed(statuses: Iterable[Status]) -> str:
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


_REQUESTABLE = _listed(REQUESTABLE)
ON_SYSTEM_HERE = f"lane = :lane AND status IN {_listed(ON_SYSTEM | {Status.SUBMITTING})}"

LANES = f"""
SELECT lane, status, count(*) FROM jobs WHERE status IN {_listed(set(Status) - FINAL)} AND lane IS NOT NULL GROUP BY lane, status
"""

SCHEMA = f"""
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
CREATE INDEX jobs_on_system ON jobs (lane) WHERE status IN {_listed(ON_SYSTEM | {Status.SUBMITTING})};
CREATE INDEX jobs_status ON jobs (status, created);
CREATE INDEX jobs_created ON jobs (created);
CREATE INDEX jobs_text_id ON jobs (text_id);
"""

_BY_INSERTION = "ORDER BY priority DESC, seq"
_BY_AGE = "ORDER BY priority DESC, created, seq"

CLAIMABLE: dict[Work, tuple[tuple[str, str], ...]] = {
    Work.BUILDING: (
        ("jobs INDEXED BY jobs_to_build WHERE status = 'to be built' AND due_at IS NULL", _BY_INSERTION),
        ("jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN ('to be built', 'building')", _BY_INSERTION),
    ),
    Work.SUBMIT: (
        ("jobs INDEXED BY jobs_to_submit WHERE status = 'to be submitted' AND lane = :lane AND due_at IS NULL", _BY_AGE),
        (
            "jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN ('to be submitted', 'submitting') AND lane = :lane",
            _BY_AGE,
        ),
    ),
    Work.REQUEST: (
        (
            "jobs INDEXED BY jobs_requested WHERE request IS NOT NULL AND lane IS :lane"
            f" AND (lease_until IS NULL OR lease_until <= :now) AND status IN {_REQUESTABLE}",
            _BY_AGE,
        ),
    ),
    Work.NOTIFICATION: ((f"jobs INDEXED BY jobs_timed WHERE due_at <= :now AND status IN {_listed(FINAL)}", _BY_AGE),),
}
"""For each kind of work, where its jobs are found, and in which order."""

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
