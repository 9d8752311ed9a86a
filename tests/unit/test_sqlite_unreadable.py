"""Rows of the embedded database that somebody has made unreadable: they cost their own job, and no other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.jobs.recovery import BEGINS
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import BrokenJob, Filter, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.jobs import BUILDING, SUBMIT, a_job, apply, built, claim, claim_job, document, now, submitted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "execd.db"


def opened(path: Path) -> SqliteJobStore:
    store = SqliteJobStore(path, SystemClock())
    store.boot(create=True)
    return store


def make_unreadable(connection: sqlite3.Connection, column: str, text_id: str) -> None:
    if column == "inputs":
        connection.execute("UPDATE inputs SET text = '{bad' WHERE seq = (SELECT seq FROM jobs WHERE text_id = ?)", (text_id,))
    else:
        connection.execute(f"UPDATE jobs SET {column} = '{{bad' WHERE text_id = ?", (text_id,))


@pytest.mark.parametrize("column", ["engine", "app", "inputs", "id", "created", "lease_token", "due_at"])
def test_a_row_that_cannot_be_read_keeps_no_other_from_being_found_and_worked_on(path: Path, column: str) -> None:
    with opened(path) as store:
        bad, good = submitted(store), submitted(store)
        waits = built(store)
        with closing(sqlite3.connect(path)) as other:
            make_unreadable(other, column, bad.text_id)
            other.commit()
        assert good.id in [job.id for job in store.on_system("here")]
        assert store.taken_cores("here", now()) == 2
        found = (
            store.find(Filter()),
            store.find(Filter(), fields=["name"]),
            store.inspection.unfinished(),
            store.inspection.ids(),
        )
        assert [len(list(each)) for each in found] == [3] * 4
        assert store.resolve(good.text_id) == good.id
        assert claim_job(store, SUBMIT).id == waits
        store.request([bad.id, good.id], "kill")
        assert good.id in [claimed.job.id for claimed in claim(store, Query(Work.REQUEST, "here"))]


@pytest.mark.parametrize("column", ["engine", "app", "inputs"])
def test_a_waiting_job_that_cannot_be_read_is_claimed_as_a_broken_one_and_keeps_what_was_there(path: Path, column: str) -> None:
    with opened(path) as store:
        (job_id,) = store.insert([a_job(inputs={"a": "b"})])
        with closing(sqlite3.connect(path)) as other:
            make_unreadable(other, column, str(job_id))
            other.commit()
        (claimed,) = claim(store)
        assert isinstance(claimed.job, BrokenJob)
        assert apply(store, claimed.job, Status.ERROR, fields={"times.ended": now()})
        assert "{bad" in str(document(store, job_id))


@pytest.mark.parametrize("status", [Status.TO_BE_BUILT, Status.TO_BE_SUBMITTED, Status.SUBMITTING])
@pytest.mark.parametrize(
    ("column", "value"), [("lease_token", 2**63 - 1), ("lease_token", -5), ("crashes", 2**63 - 1), ("id", "{bad"), ("id", "2.50")]
)
def test_a_row_that_no_write_can_change_ends_and_keeps_no_other_from_being_claimed(
    path: Path, column: str, value: Any, status: Status
) -> None:
    query = {Status.TO_BE_BUILT: BUILDING}.get(status, SUBMIT)
    with opened(path) as store:
        bad, good = (built(store), built(store)) if query is SUBMIT else store.insert([a_job(), a_job()])
        with closing(sqlite3.connect(path)) as other:
            other.execute("UPDATE jobs SET status = ?, due_at = ?", (status, None if status in BEGINS else 1))
            other.execute(f"UPDATE jobs SET {column} = ? WHERE text_id = ?", (value, str(bad)))
            other.commit()
        claims = [one for number in range(3) for one in claim(store, query, owner=f"boot/{number}", limit=1 + number)]
        assert good in [one.job.id for one in claims]
        for one in claims:
            assert apply(store, one.job, Status.ERROR, by="boot/9")
        assert store.count() == {"error": 2}
