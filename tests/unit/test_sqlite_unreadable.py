"""Rows of the embedded database that somebody has made unreadable: they cost their own job, and no other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from execution_engine.clock import SystemClock
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import BrokenJob, Filter, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.jobs import SUBMIT, a_job, apply, built, claim, claim_job, document, now, submitted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "execd.db"


def opened(path: Path) -> SqliteJobStore:
    store = SqliteJobStore(path, SystemClock())
    store.boot(create=True)
    return store


@pytest.mark.parametrize("column", ["engine", "app", "inputs", "id", "created", "lease_token", "due_at"])
def test_a_row_that_cannot_be_read_keeps_no_other_from_being_found_and_worked_on(path: Path, column: str) -> None:
    with opened(path) as store:
        bad, good = submitted(store), submitted(store)
        waits = built(store)
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"UPDATE jobs SET {column} = '{{bad' WHERE text_id = ?", (bad.text_id,))
            other.commit()
        assert good.id in [job.id for job in store.on_system("here")]
        assert store.taken_cores("here", now()) == 2
        assert len(store.find(Filter())) == len(list(store.inspection.unfinished())) == len(list(store.inspection.ids())) == 3
        assert store.resolve(good.text_id) == good.id
        assert claim_job(store, SUBMIT).id == waits
        store.request([bad.id, good.id], "kill")
        assert good.id in [claimed.job.id for claimed in claim(store, Query(Work.REQUEST, "here"))]


@pytest.mark.parametrize("column", ["engine", "app", "inputs"])
def test_a_waiting_job_that_cannot_be_read_is_claimed_as_a_broken_one_and_keeps_what_was_there(path: Path, column: str) -> None:
    with opened(path) as store:
        (job_id,) = store.insert([a_job(inputs={"a": "b"})])
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"UPDATE jobs SET {column} = '{{bad'")
            other.commit()
        (claimed,) = claim(store)
        assert isinstance(claimed.job, BrokenJob)
        assert apply(store, claimed.job, Status.ERROR, fields={"times.ended": now()})
        assert "{bad" in str(document(store, job_id))
