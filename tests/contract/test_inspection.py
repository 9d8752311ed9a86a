"""What `execd doctor` sees of a database: the same on both."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.jobs.status import Status
from execution_engine.store import mongo_inspection, open_store
from execution_engine.store.job_store import JobStore
from tests.support.commands import move_all

JOB = {"status": "to be built", "command": ["true"], "inputs": {"data": "x"}}


@pytest.fixture
def there(database: Database) -> Database:
    """A real database that has been made."""
    with open_store(database, SystemClock()) as store:
        store.boot(create=True)
    return database


def spoil_indexes(database: Database) -> None:
    """Takes one index away and makes another one anew, of other keys."""
    if database.url.startswith("sqlite:"):
        with sqlite3.connect(Path(database.url.removeprefix("sqlite:///"))) as connection:
            connection.executescript("DROP INDEX jobs_timed; DROP INDEX jobs_status; CREATE INDEX jobs_status ON jobs (owner)")
        connection.close()
        return
    with pymongo.MongoClient[dict[str, Any]](database.url) as client:
        jobs = client[database.name]["jobs"]
        jobs.drop_index("lease.owner_1")
        jobs.drop_index("request_1")
        jobs.create_index([("owner", 1)], name="request_1")


def test_a_new_database_has_all_indexes_as_they_must_be(there: Database) -> None:
    with open_store(there, SystemClock()) as store:
        assert store.inspection.wrong_indexes() == []


def test_missing_and_wrong_indexes_are_named_and_made_right(there: Database) -> None:
    spoil_indexes(there)
    with open_store(there, SystemClock()) as store:
        wrong = store.inspection.wrong_indexes()
        assert sorted(" ".join(line.split()[-2:]) for line in wrong) == ["is missing", "must be"], wrong
        store.inspection.make_indexes()
        assert store.inspection.wrong_indexes() == []
        store.inspection.make_indexes()
        assert store.inspection.wrong_indexes() == []


def test_a_server_tells_its_time_and_an_embedded_database_has_none(there: Database) -> None:
    with open_store(there, SystemClock()) as store:
        told = store.inspection.clock()
        assert (told is None) == there.url.startswith("sqlite:")
        assert told is None or abs(told - SystemClock().now()) < timedelta(minutes=1)


def test_each_job_is_seen_once_and_without_its_inputs(store: JobStore) -> None:
    ids = store.insert([dict(JOB) for _ in range(3)])
    (draft,) = store.insert([{**JOB, "status": "init", "_id": "a draft"}])
    move_all(store, Status.ERROR)
    waiting = store.insert([dict(JOB)])
    seen = list(store.inspection.unfinished())
    assert {document["_id"] for document in seen} == {draft, *waiting}
    assert not any("inputs" in document for document in seen)
    assert sorted(map(str, store.inspection.ids())) == sorted(map(str, [*ids, draft, *waiting]))


def test_documents_without_a_status_are_counted_up_to_a_limit(store: JobStore) -> None:
    store.insert([dict(JOB) for _ in range(3)])
    assert store.inspection.without_status(10) == 0
    store.insert([{"command": ["true"]}, {"command": ["true"], "status": None}, {"command": ["true"], "status": 5}])
    assert [store.inspection.without_status(most) for most in (10, 2)] == [3, 2]


def test_documents_without_a_status_are_found_by_an_index(there: Database) -> None:
    where: dict[str, Any] = mongo_inspection._WITHOUT_STATUS
    if there.url.startswith("sqlite:"):
        with closing(sqlite3.connect(Path(there.url.removeprefix("sqlite:///")))) as connection:
            plan = str(connection.execute("EXPLAIN QUERY PLAN SELECT 1 FROM jobs WHERE status IS NULL LIMIT 9").fetchall())
        assert "USING COVERING INDEX jobs_status" in plan
        return
    with pymongo.MongoClient[dict[str, Any]](there.url) as client:
        plan = str(client[there.name]["jobs"].find(where).limit(9).explain()["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in plan
    assert "COLLSCAN" not in plan


def test_an_ended_job_is_untold_as_long_as_it_is_due(store: JobStore) -> None:
    told, untold = store.insert([dict(JOB) for _ in range(2)])
    move_all(store, Status.ERROR)
    now = SystemClock().now()
    job = store.claim_one(untold, "test", now, now + timedelta(minutes=1))
    assert job is not None
    store.release("test", now)
    assert [document["_id"] for document in store.inspection.untold()] == [untold]
    assert told != untold
