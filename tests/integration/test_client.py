"""The Python interface for apps, on a real database."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from execution_engine.client import Client, Filter
from execution_engine.clock import SystemClock
from execution_engine.errors import ConfigError, InvalidJob, NoSuchJob, StoreError
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change
from tests.support.commands import CommandLine, move_all


@pytest.fixture
def site(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


@pytest.fixture
def client(site: CommandLine) -> Iterator[Client]:
    with site.client() as client:
        yield client


def test_a_job_is_stored_as_the_app_wrote_it_to_be_built(client: Client):
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)
    document = {"command": ["true"], "mine": {"a": [1, 2.5, None, b"\x00", moment, ObjectId()]}, "not_before": moment}
    (job_id,) = client.submit([document])
    assert client.get(job_id).items() >= {"_id": job_id, "status": "to be built", **document}.items()
    assert "status" not in document


def test_ids_are_returned_in_order_and_given_ones_are_kept(client: Client):
    ids = client.submit({"command": "true", **given} for given in ({}, {"_id": "mine"}, {"_id": 7}))
    assert ids[1:] == ["mine", 7]
    assert [client.get(job_id)["_id"] for job_id in ids] == ids


def test_a_draft_is_stored_as_a_draft(client: Client):
    (job_id,) = client.submit([{"command": "true", "status": "init"}])
    assert client.statuses([job_id]) == {job_id: Status.INIT}


def test_nothing_is_submitted_when_there_is_nothing(client: Client):
    assert client.submit([]) == []


def test_all_problems_of_all_documents_are_named_and_none_is_stored(client: Client):
    with pytest.raises(InvalidJob) as refused:
        client.submit([{"command": "true"}, {"name": 5}, {"command": "x", "status": "finished"}])
    assert [problem.split(":")[:2] for problem in refused.value.problems] == [
        ["job 2", " command"],
        ["job 2", " name"],
        ["job 3", " status"],
    ]
    assert client.find() == []


def test_what_is_no_document_is_named_with_its_number(client: Client):
    with pytest.raises(InvalidJob, match="job 2: expected a job"):
        client.submit([{"command": "true"}, "true"])  # type: ignore[list-item]


def test_fields_that_are_not_served_hide_no_other_problem(client: Client):
    with pytest.raises(InvalidJob) as refused:
        client.submit([{"array": 3, "retry": {}, "name": 5}])
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["array", "retry", "command", "name"]


def test_a_document_that_holds_itself_is_refused(client: Client):
    document: dict[str, Any] = {"command": "true"}
    document["mine"] = document
    with pytest.raises(InvalidJob, match="nested too deeply"):
        client.submit([document])


def test_an_id_that_is_there_already_is_refused(client: Client):
    client.submit([{"_id": "a", "command": "true"}])
    with pytest.raises(StoreError):
        client.submit([{"_id": "b", "command": "true"}, {"_id": "a", "command": "true"}])
    assert len(client.find()) == 1


def test_jobs_are_found_by_what_they_are(client: Client):
    ids = client.submit([{"command": "true", "owner": owner} for owner in ("ann", "bob", "ann")])
    assert [job["_id"] for job in client.find(Filter(owner="ann"))] == [ids[2], ids[0]]
    assert len(client.find(limit=2)) == 2


def test_a_job_that_is_not_there_is_no_such_job(client: Client):
    with pytest.raises(NoSuchJob):
        client.get("none")
    with pytest.raises(NoSuchJob, match="none"):
        client.wait(["none"])


def test_wait_returns_when_the_jobs_have_ended_and_tells_of_each_change(site: CommandLine, client: Client):
    (first,), seen = client.submit([{"command": "true"}]), []

    def engine() -> None:
        with site.client() as other:
            move_all(other.store, Status.RUNNING)
            (job,) = other.store.on_system("here")
            other.store.apply([Change(job, Status.FINISHED)], "test", SystemClock().now())

    worker = threading.Thread(target=engine)

    def on_change(changed: dict[Any, Status]) -> None:
        seen.append(changed[first])
        if len(seen) == 1:
            worker.start()

    assert client.wait([first, first], timeout=20, on_change=on_change) == {first: Status.FINISHED}
    worker.join()
    assert seen[0] == Status.TO_BE_BUILT
    assert seen[-1] == Status.FINISHED


def test_wait_returns_what_it_knows_when_the_time_is_over(client: Client):
    ids = client.submit([{"command": "true"}, {"command": "true", "status": "init"}])
    assert client.wait(ids, timeout=0.05) == {ids[0]: Status.TO_BE_BUILT, ids[1]: Status.INIT}
    assert client.wait([], timeout=None) == {}


def test_a_request_is_given_to_the_jobs_that_have_not_ended(client: Client):
    (ended,) = client.submit([{"command": "true"}])
    move_all(client.store, Status.FINISHED)
    (waiting,) = client.submit([{"command": "true"}])
    assert client.request([ended, waiting], "kill") == [waiting]
    assert client.get(waiting)["request"] == "kill"
    with pytest.raises(ValueError, match="'kil' is not a request"):
        client.request([waiting], "kil")


def test_submit_and_request_wake_the_engine(site: CommandLine):
    config = site.config
    config.run_dir.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as engine, site.client() as client:
        engine.bind(str(config.run_dir / "wake"))
        engine.settimeout(5)
        (job,) = client.submit([{"command": "true"}])
        assert engine.recv(100) == b"{}"
        client.request([job], "kill")
        assert engine.recv(100) == b"{}"


def test_an_engine_that_is_gone_or_deaf_keeps_nobody_from_submitting(site: CommandLine):
    path = site.config.run_dir / "wake"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as engine, site.client() as client:
        engine.bind(str(path))
        for _ in range(1000):
            client.wake()
        assert client.submit([{"command": "true"}])
    with site.client() as client:
        assert client.submit([{"command": "true"}])
        path.unlink()
        assert client.submit([{"command": "true"}])


def test_an_app_needs_only_the_url_of_the_database(site: CommandLine):
    with Client(site.config.database.url) as client:
        (job,) = client.submit([{"command": "true"}])
    with site.client() as client:
        assert client.get(job)["command"] == "true"


@pytest.mark.parametrize("url", ["postgres://localhost/", "execd.db"])
def test_another_kind_of_database_is_refused(url: str):
    with pytest.raises(ConfigError):
        Client(url)
