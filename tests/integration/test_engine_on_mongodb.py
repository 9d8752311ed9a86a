"""An engine whose jobs live in a MongoDB: apps insert with a plain driver, and the server may go away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.collection import Collection

from execution_engine.config import Database
from execution_engine.jobs.status import FINAL
from tests.support.databases import MongoServer
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until

pytestmark = pytest.mark.mongodb


@pytest.fixture
def jobs(mongodb_database: Database) -> Iterator[Collection[dict[str, Any]]]:
    """The collection as an app sees it."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_database.url, tz_aware=True) as client:
        yield client[mongodb_database.name]["jobs"]


@pytest.fixture
def engine(make_engine: MakeEngine, mongodb_database: Database) -> Engine:
    """A running engine on that database."""
    engine = make_engine(
        database={"url": mongodb_database.url, "name": mongodb_database.name, "timeout": "3s"},
        execution_systems={"here": {"class": "Local", "slots": 2}},
        engine={"retry_delay": {"min": "0.2s", "max": "1s"}},
    )
    engine.start()
    return engine


def ended(jobs: Collection[dict[str, Any]], *ids: Any) -> list[dict[str, Any]]:
    """The documents of these jobs, when all of them have ended."""

    def all_ended() -> list[dict[str, Any]] | None:
        found = [jobs.find_one({"_id": job_id}) for job_id in ids]
        documents = [document for document in found if document is not None]
        return documents if {document["status"] for document in documents} <= set(FINAL) else None

    documents: list[dict[str, Any]] = until(all_ended, f"{len(ids)} jobs ended", timeout=60)
    return documents


def test_jobs_that_apps_insert_with_a_plain_driver_go_from_the_insert_to_the_end(
    engine: Engine, jobs: Collection[dict[str, Any]]
) -> None:
    good = {"status": "to be built", "command": ["sh", "-c", "echo $WORD > out"], "env": {"WORD": "hello"}, "outputs": ["out"]}
    ids = [
        jobs.insert_one(document).inserted_id
        for document in (
            {**good, "page": {"of": "the app"}},
            {**good, "_id": "an id of the app's own", "resources": {"cores": 2.0}},
            {"status": "to be built", "command": 5, "lease": "foo", "history": 7},
            {"status": "to be built"},
        )
    ]
    jobs.insert_one({"not": "a job"})
    draft = jobs.insert_one({**good, "status": "init"}).inserted_id
    first, own, hostile, empty = ended(jobs, *ids)
    assert (first["status"], first["results"], first["page"]) == ("finished", [{"path": "out", "size": 6}], {"of": "the app"})
    assert own["status"] == "finished"
    assert (hostile["status"], empty["status"]) == ("error", "error")
    assert "command" in hostile["error"]["message"]
    assert jobs.count_documents({"not": "a job"}) == 1
    document = jobs.find_one({"_id": draft})
    assert document is not None
    assert document["status"] == "init"
    document["status"] = "to be built"
    jobs.update_one({"_id": draft}, {"$set": {"status": "to be built"}})
    assert ended(jobs, draft)[0]["status"] == "finished"


def test_an_app_asks_for_a_kill_by_setting_the_request(engine: Engine, jobs: Collection[dict[str, Any]]) -> None:
    job_id = jobs.insert_one({"status": "to be built", "command": ["sleep", "300"]}).inserted_id
    engine.until_status(job_id, "running")
    jobs.update_one({"_id": job_id}, {"$set": {"request": "kill"}})
    (job,) = ended(jobs, job_id)
    assert (job["status"], job["exit"]["reason"]) == ("killed", "killed")
    assert "request" not in job


def test_an_outage_of_the_database_changes_no_status_and_is_one_line_in_the_log(
    own_mongodb_server: MongoServer, engine: Engine, jobs: Collection[dict[str, Any]]
) -> None:
    long = jobs.insert_one({"status": "to be built", "command": "sleep 4; echo done > result", "outputs": ["result"]}).inserted_id
    ran = engine.until_status(long, "running")
    own_mongodb_server.stop()
    until(lambda: "database does not answer" in engine.log(), "the log says so")
    assert engine.process("execd: monitor") is not None
    own_mongodb_server.start()
    until(lambda: "database answers again" in engine.log(), "the log says so")
    (job,) = ended(jobs, long)
    assert job["status"] == "finished"
    assert job["results"] == [{"path": "result", "size": 5}]
    assert job["execution"]["job_no"] == ran["execution"]["job_no"], "it ran on undisturbed"
    new = jobs.insert_one({"status": "to be built", "command": ["true"]}).inserted_id
    assert ended(jobs, new)[0]["status"] == "finished"
    assert engine.log().count("database does not answer") == 1
    assert "crash" not in engine.log()
