"""Fixtures that give a test a job store: on a real SQLite file, and on a real MongoDB-speaking server.

Where no such server is to be had, the tests of one process run on mongomock, and the head of pytest's report says so.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mongomock
import mongomock.collection
import pymongo
import pytest
from mongomock.collection import BulkOperationBuilder

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.store import open_store
from execution_engine.store.job_store import JobStore
from execution_engine.store.mongo import MongoJobStore
from tests.support.databases import MISSING, GivenServer, MongoServer, ferretdb_program, server_program

MakeStore = Callable[[], JobStore]


def _given() -> str | None:
    return os.environ.get("EXECD_TEST_MONGODB_URL")


def _there_is_a_server() -> bool:
    return bool(_given() or server_program())


def pytest_report_header() -> str:
    if _there_is_a_server():
        return f"mongodb: {'EXECD_TEST_MONGODB_URL' if _given() else server_program()}"
    return f"mongodb: mongomock, in one process only; {MISSING}"


def _left_out() -> None:
    if "mongodb" in os.environ.get("EXECD_TEST_REQUIRE", "").split(","):
        pytest.fail(f"EXECD_TEST_REQUIRE=mongodb, but {MISSING}")
    pytest.skip(MISSING)


def _mongomock() -> Callable[..., Any]:
    """Connects to one and the same mongomock; its bulk writes do not know yet that pymongo hands over `sort`."""
    add_update = BulkOperationBuilder.add_update

    class Builder(BulkOperationBuilder):  # type: ignore[misc]
        def add_update(self, *arguments: Any, sort: None = None, **options: Any) -> Any:
            assert sort is None
            return add_update(self, *arguments, **options)

    mongomock.collection.BulkOperationBuilder = Builder
    client = mongomock.MongoClient(tz_aware=True)
    return lambda *_, **__: client


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoServer | GivenServer]:
    """A running MongoDB-speaking server: `.url`; one of our own can also `.stop()` and `.start()` again on its port."""
    if not _there_is_a_server():
        _left_out()
    if url := _given():
        yield GivenServer(url)
        return
    program = server_program()
    assert program is not None
    with _running(program) as server:
        yield server


@contextmanager
def _running(program: str) -> Iterator[MongoServer]:
    server = MongoServer(program)
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def ferretdb_server() -> Iterator[MongoServer]:
    """A running FerretDB, beside a server of another make."""
    program = ferretdb_program()
    assert program is not None
    with _running(program) as server:
        yield server


@pytest.fixture
def fresh_mongodb_server() -> Iterator[MongoServer | GivenServer]:
    """One without the databases of other tests, where it can be started: some servers become slow with their number."""
    program = server_program()
    if url := _given():
        yield GivenServer(url)
    elif program is None:
        _left_out()
    else:
        with _running(program) as server:
            yield server


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


def _kinds() -> list[str]:
    """FerretDB beside another server, because the job store takes turns there."""
    return ["sqlite", "mongodb", *(["ferretdb"] if ferretdb_program() not in (None, server_program()) else [])]


@pytest.fixture(params=_kinds())
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """`make_store()` gives one more store on the same empty database, connected; closed after the test."""
    clock = SystemClock()
    with ExitStack() as stack:

        def opened(store: JobStore) -> JobStore:
            stack.callback(store.close)
            store.boot(create=True)
            return store

        if request.param == "sqlite":
            made = Database(url=f"sqlite:///{tmp_path / 'execd.db'}")
            yield lambda: opened(open_store(made, clock))
        elif request.param == "ferretdb":
            turns = _new_database(request.getfixturevalue("ferretdb_server").url)
            yield lambda: opened(open_store(turns, clock))
        elif _there_is_a_server() or os.environ.get("EXECD_TEST_REQUIRE"):
            real = request.getfixturevalue("mongodb_database")
            yield lambda: opened(open_store(real, clock))
        else:
            if request.node.get_closest_marker("mongodb"):
                _left_out()
            mocked, connect = Database(url="mongodb://mongomock/"), _mongomock()
            yield lambda: opened(MongoJobStore(mocked, clock, connect=connect))


@pytest.fixture
def store(make_store: MakeStore) -> JobStore:
    """One connected store."""
    return make_store()
