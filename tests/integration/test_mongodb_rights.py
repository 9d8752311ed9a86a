"""What `check`, `start`, `doctor` and `status` say of a MongoDB on which no engine can work; and one on a secured one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import StoreError
from execution_engine.store import open_store
from tests.support.databases import MongoServer
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import until
from tests.support.jobs import a_job
from tests.support.replica_set import ReplicaSet
from tests.support.secured_server import SecuredServer, can_certify
from tests.support.store_fixtures import closing_for_good, mongod_program

pytestmark = pytest.mark.mongodb

OUTAGE = 2.0
"""Seconds: several times the longest delay between two tries."""
EVERYTHING = ["find", "insert", "update", "remove", "createIndex", "listIndexes", "createCollection"]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServer]:
    if not can_certify():
        pytest.skip("no openssl, which makes the certificates: apt-get install openssl")
    with closing_for_good(SecuredServer(mongod_program(), tmp_path_factory.mktemp("tls"))) as server:
        server.start()
        yield server


@pytest.fixture
def name() -> str:
    """Of a database, and of the user for it."""
    return f"execd_{uuid.uuid4().hex[:8]}"


Refused = Callable[[str], str]


@pytest.fixture
def refused_by_all(make_engine: MakeEngine, name: str) -> Refused:
    """What `check`, `start` and `doctor` say of a database on which nothing can work; none of them is content."""

    def ask(url: str) -> str:
        engine = make_engine(database={"url": url, "name": name, "timeout": "2s"})
        said = []
        for command in ("check", "start", "doctor"):
            done = engine.execd(command, check=False)
            said.append(done.stdout + done.stderr)
            assert done.returncode != 0, (command, said[-1])
            assert "Traceback" not in said[-1]
        assert engine.execd("stop", check=False).returncode == 3, "no engine is left"
        return "\n".join(said)

    return ask


def test_an_engine_works_on_a_server_with_tls_and_a_login(secured: SecuredServer, name: str, make_engine: MakeEngine) -> None:
    engine = make_engine(database={"url": secured.add_user(name, name, "readWrite"), "name": name})
    engine.start()
    (job,) = engine.run({"command": ["true"]})
    assert job["status"] == "finished"
    engine.execd("check")


def test_a_server_that_wants_a_login_is_not_green_without(secured: SecuredServer, name: str, refused_by_all: Refused) -> None:
    assert refused_by_all(secured.url).count("wants a user and a password") >= 3


def test_a_wrong_password_is_named_as_what_it_is(secured: SecuredServer, name: str, refused_by_all: Refused) -> None:
    url = secured.add_user(name, name, "readWrite").replace("pass%3A", "path%3A")
    said = refused_by_all(url)
    assert said.count("user and password were not accepted") >= 3
    assert "path%3A" not in said


def test_a_user_of_another_database_than_that_of_the_path_is_told_where_it_is_looked_for(
    secured: SecuredServer, name: str
) -> None:
    url = secured.add_user(name, name, "readWrite").replace("/?", f"/{name}?")
    with pytest.raises(StoreError) as refused, open_store(Database(url=url), SystemClock()) as store:
        store.ping()
    assert "not accepted" in str(refused.value)
    assert f"the user is looked for in {name}: if it is one of admin, add ?authSource=admin" in str(refused.value)
    with open_store(Database(url=f"{url}&authSource=admin"), SystemClock()) as store:
        assert "MongoDB" in store.ping()


@pytest.mark.parametrize(
    ("missing", "collection", "named"),
    [
        ("insert", "jobs", "`insert` in the collection jobs"),
        ("update", "jobs", "`update` in the collection jobs"),
        ("createIndex", "jobs", "`createIndex` in the collection jobs"),
        ("remove", "engines", "`remove` in the collection engines"),
        ("insert", "events", "`insert` in the collection events"),
    ],
)
def test_the_right_that_is_missing_is_named(secured: SecuredServer, name: str, missing: str, collection: str, named: str) -> None:
    rights = {each: list(EVERYTHING) for each in ("jobs", "engines", "events")}
    rights[collection].remove(missing)
    database = Database(url=secured.add_user(name, name, rights), name=name)
    with open_store(database, SystemClock()) as store:
        with pytest.raises(StoreError, match=named):
            store.inspection.try_out()
        secured.give_right(name, name, collection, missing)
        until(lambda: _tried(store.inspection), "the right is there")
        store.boot(create=True)
        secured.take_right(name, name, "jobs", "createIndex")
        assert _tried(store.inspection), "that right is wanted only where an index is missing"
        assert (store.count(), store.engines.all(), store.journal.select()) == ({}, [], []), "the records are gone"


def _tried(inspection: Any) -> bool:
    try:
        inspection.try_out()
    except StoreError:
        return False
    return True


def test_a_user_who_can_only_read_is_refused_by_all(secured: SecuredServer, name: str, refused_by_all: Refused) -> None:
    assert refused_by_all(secured.add_user(name, name, "read")).count("has no right to") >= 3


def test_a_user_who_may_make_no_index_is_refused_by_all(secured: SecuredServer, name: str, refused_by_all: Refused) -> None:
    rights = {each: [right for right in EVERYTHING if right != "createIndex"] for each in ("jobs", "engines", "events")}
    said = refused_by_all(secured.add_user(name, name, rights))
    assert said.count("`createIndex` in the collection jobs") >= 3


@pytest.mark.parametrize("collections", [("jobs",), ("engines",), ("jobs", "engines", "events")])
def test_a_right_that_is_taken_from_a_running_engine_is_named_by_status_and_costs_no_job(
    secured: SecuredServer, name: str, make_engine: MakeEngine, collections: tuple[str, ...]
) -> None:
    url = secured.add_user(name, name, {each: list(EVERYTHING) for each in ("jobs", "engines", "events")})
    engine = make_engine(database={"url": url, "name": name}, engine={"retry_delay": {"min": "0.1s", "max": "0.4s"}})
    engine.start()
    for collection in collections:
        secured.take_right(name, name, collection, "update")
    (job_id,) = engine.submit({"command": ["true"]})
    until(lambda: "`update` in the collection" in engine.execd("status", check=False).stdout, "status says so")
    time.sleep(OUTAGE)
    for collection in collections:
        secured.give_right(name, name, collection, "update")
    (job,) = engine.wait([job_id])
    assert (job["status"], job["lease"]["crashes"]) == ("finished", 0)
    until(lambda: "database answers again" in engine.log(), "the log says so")
    assert engine.log().count("database does not answer") == engine.log().count("database answers again") == 1
    assert "by a fault of the engine" not in engine.log()


def test_a_connection_to_a_secondary_is_refused_by_all(replica_set: ReplicaSet, name: str, refused_by_all: Refused) -> None:
    secondary = replica_set.secondaries()[0]
    said = refused_by_all(f"mongodb://{secondary.address}/?directConnection=true")
    assert said.count("it is a secondary") >= 3


# --- TLS, files, options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tlsCAFile": "/nowhere/ca.pem"}, ["/nowhere/ca.pem must be there"]),
        ({"tlsCAFile": "/etc/passwd"}, ["no certificate", "/etc/passwd must"]),
        ({"tlsCAFil": "x"}, ["tlsCAFil:", "tlscafile"]),
        ({"retryWrites": "maybe"}, ["retryWrites:", "'true' or 'false'"]),
        ({"replicaSet": "other"}, ["of the replica set that replicaSet"]),
        ({"tls": "false"}, ["tls"]),
    ],
)
def test_what_is_wrong_in_a_url_is_named(secured: SecuredServer, name: str, options: dict[str, str], words: list[str]) -> None:
    url = secured.url_of(None, **options) if "tls" not in options else f"mongodb://{secured.address}/"
    said = why_not(Database(url=url, name=name, timeout=1.0))
    assert all(word in said for word in words), said


def test_a_certificate_of_another_authority_is_named(secured: SecuredServer, name: str) -> None:
    said = why_not(Database(url=secured.url_of(None).partition("&tlsCAFile")[0], name=name, timeout=1.0))
    assert "no connection by TLS" in said
    assert "tlsCAFile" in said


def test_tls_to_a_server_without_is_named(secured: SecuredServer, mongodb_server: MongoServer, name: str) -> None:
    url = f"{mongodb_server.url}?tls=true&tlsCAFile={secured.authority.certificate}"
    assert "no connection by TLS" in why_not(Database(url=url, name=name, timeout=1.0))


def why_not(database: Database) -> str:
    """Why it cannot be used: without a warning beside it, which would be an error of the test."""
    with pytest.raises(StoreError) as raised, open_store(database, SystemClock()) as store:
        store.insert([a_job()])
    return str(raised.value)
