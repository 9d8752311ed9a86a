"""Fixtures that give a test a job store: on a real SQLite file, a real MongoDB, and a replica set of three."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pymongo
import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.store import open_store
from execution_engine.store.job_store import JobStore
from execution_engine.store.masking import masked
from tests.support.databases import GivenServer, MongoServer, missing, server_program
from tests.support.replica_set import ReplicaSet
from tests.support.secured_server import SecuredServer

MakeStore = Callable[[], JobStore]
Ended = TypeVar("Ended", MongoServer, ReplicaSet, SecuredServer)


def _given() -> str | None:
    return os.environ.get("EXECD_TEST_MONGODB_URL")


def pytest_report_header() -> str:
    if url := _given():
        return f"mongodb: {masked(url)}"
    return f"mongodb: {server_program() or missing()}"


def mongod_program() -> str:
    """A mongod; the test is left out, or fails in CI, where there is none."""
    program = server_program()
    if program is None:
        if "mongodb" in os.environ.get("EXECD_TEST_REQUIRE", "").split(","):
            pytest.fail(f"EXECD_TEST_REQUIRE=mongodb, but {missing()}")
        pytest.skip(missing())
    return program


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoServer | GivenServer]:
    """A running MongoDB server: `.url`; one of our own can also `.stop()` and `.start()` again on its port."""
    if url := _given():
        yield GivenServer(url)
        return
    with closing_for_good(MongoServer(mongod_program())) as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def _replica_set() -> Iterator[ReplicaSet]:
    with closing_for_good(ReplicaSet(mongod_program())) as replicas:
        replicas.start()
        yield replicas


@pytest.fixture
def replica_set(_replica_set: ReplicaSet) -> Iterator[ReplicaSet]:
    """Three running nodes, to which the test may do what it likes; they are mended afterwards."""
    yield _replica_set
    _replica_set.mend()


@pytest.fixture
def replica_set_database(replica_set: ReplicaSet) -> Database:
    """A database of the test's own on the replica set."""
    return _new_database(replica_set.url)


@contextmanager
def closing_for_good(server: Ended) -> Iterator[Ended]:
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def own_mongodb_server(mongodb_server: MongoServer | GivenServer) -> Iterator[MongoServer]:
    """As `mongodb_server`, one that the test may stop; it runs again afterwards."""
    if not isinstance(mongodb_server, MongoServer):
        pytest.skip("the MongoDB server cannot be stopped: unset EXECD_TEST_MONGODB_URL")
    yield mongodb_server
    mongodb_server.stop()
    mongodb_server.start()


@pytest.fixture
def mongodb_database(mongodb_server: MongoServer | GivenServer) -> Iterator[Database]:
    """A database of the test's own on that server."""
    database = _new_database(mongodb_server.url)
    yield database
    if isinstance(mongodb_server, GivenServer):
        with pymongo.MongoClient[Any](database.url) as client:
            client.drop_database(database.name)


def _new_database(url: str) -> Database:
    return Database(url=url, name=f"execd_test_{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database, once of each kind; real ones, which any process can open."""
    if request.param == "mongodb":
        return request.getfixturevalue("mongodb_database")
    return Database(url=f"sqlite:///{tmp_path / 'execd.db'}")


@pytest.fixture
def database_url(database: Database) -> str:
    """The URL of `database`; on MongoDB, mind its `name`."""
    return database.url


_KINDS = ["sqlite", *(pytest.param(kind, marks=pytest.mark.mongodb) for kind in ("mongodb", "replica_set"))]


@pytest.fixture(params=_KINDS)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """`make_store()` gives one more store on the same empty database, connected; closed after the test."""
    clock = SystemClock()
    if request.param == "sqlite":
        made = Database(url=f"sqlite:///{tmp_path / 'execd.db'}")
    else:
        made = request.getfixturevalue(f"{request.param}_database")
    with ExitStack() as stack:

        def opened() -> JobStore:
            store = open_store(made, clock)
            stack.callback(store.close)
            store.boot(create=True)
            return store

        yield opened


@pytest.fixture
def store(make_store: MakeStore) -> JobStore:
    """One connected store."""
    return make_store()
