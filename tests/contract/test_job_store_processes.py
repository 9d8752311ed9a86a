"""Job stores in many processes, and databases that go away.  On SQLite and on a real MongoDB."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.jobs.status import Status
from execution_engine.store import open_store
from execution_engine.store.job_store import Change, JobStore
from tests.support.databases import LosingProxy, MongoServer
from tests.support.jobs import BUILDING, a_job, apply, claim, claim_job, document, job, later, now

S = Status
PROCESSES = 8
JOBS = 5000
HOUR = timedelta(hours=1)


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes, all of which are up before the first begins to work."""
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(number, timeout=60)
    with ProcessPoolExecutor(number, mp_context=context, initializer=barrier.wait) as pool:
        yield pool


def made(database: Database) -> JobStore:
    """A store on a database that may not be there yet."""
    store = open_store(database, SystemClock())
    store.boot(create=True)
    return store


def _claim_all(database: Database, owner: str, limit: int) -> list[str]:
    clock = SystemClock()
    ids: list[str] = []
    with open_store(database, clock) as store:
        while batch := store.claim(BUILDING, owner, limit, clock.now(), clock.now() + HOUR):
            ids += [str(one.job.id) for one in batch]
    return ids


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_processes_claim_five_thousand_jobs_each_exactly_once(database: Database) -> None:
    limit = 50 if database.url.startswith("sqlite") else 700
    with made(database) as store, processes(PROCESSES) as pool:
        ids = store.insert([a_job() for _ in range(JOBS)])
        work = [pool.submit(_claim_all, database, f"boot/{number}", limit) for number in range(PROCESSES)]
        assert Counter(job_id for each in work for job_id in each.result()) == Counter(str(job_id) for job_id in ids)
        assert store.count() == {"building": JOBS}


def _end_all(database: Database, jobs: list[Any], by: str) -> list[str]:
    clock = SystemClock()
    with open_store(database, clock) as store:
        return [one.text_id for one in jobs if not store.apply([Change(one, S.ERROR)], by, clock.now())]


def test_of_four_processes_that_end_the_same_jobs_one_each_succeeds(database: Database) -> None:
    with made(database) as store, processes(4) as pool:
        ids = store.insert([a_job() for _ in range(25)])
        jobs = [claimed.job for claimed in claim(store)]
        work = [pool.submit(_end_all, database, jobs, f"boot/{number}") for number in range(4)]
        assert Counter(text for each in work for text in each.result()) == Counter(str(job_id) for job_id in ids)
        assert all(len(document(store, job_id)["history"]) == 2 for job_id in ids)


# --- a database that goes away


def test_a_database_that_is_away_is_unavailable_within_the_timeout_and_usable_when_it_is_back(
    own_mongodb_server: MongoServer, mongodb_database: Database
) -> None:
    quick = mongodb_database.model_copy(update={"timeout": 1.0})
    with made(quick) as store:
        store.insert([a_job()])
        own_mongodb_server.stop()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=rf"127.0.0.1:{own_mongodb_server.port}.*does not answer"):
            store.due([BUILDING], now())
        with pytest.raises(StoreUnavailable):
            claim(store)
        assert time.monotonic() - begun < 5
        own_mongodb_server.start()
        assert store.due([BUILDING], now()) == {BUILDING}
        assert claim_job(store).status is S.BUILDING


def test_a_store_boots_when_the_database_has_come_up(own_mongodb_server: MongoServer, mongodb_database: Database) -> None:
    own_mongodb_server.stop()
    store = open_store(mongodb_database.model_copy(update={"timeout": 0.5}), SystemClock())
    with pytest.raises(StoreUnavailable):
        store.boot()
    own_mongodb_server.start()
    store.boot()
    assert store.count() == {}
    store.close()


def _losing(store_url: Database, port: int) -> tuple[JobStore, LosingProxy]:
    """A store whose connection can lose an answer about jobs; its collections are there already."""
    made(store_url).close()
    proxy = LosingProxy(port, marker=b"\x05\x00\x00\x00jobs\x00")
    database = store_url.model_copy(update={"url": f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&retryReads=false"})
    return open_store(database, SystemClock()), proxy


@pytest.mark.parametrize("number", range(1, 11))
def test_whatever_answer_is_lost_a_claim_can_be_repeated(
    own_mongodb_server: MongoServer, mongodb_database: Database, number: int
) -> None:
    store, proxy = _losing(mongodb_database, own_mongodb_server.port)
    with store:
        ids = store.insert([a_job() for _ in range(3)])
        until = later()
        proxy.lose_answer(number)
        try:
            claims = claim(store, until=until)
        except StoreUnavailable:
            claims = claim(store, until=until)
            claims += claim(store, until=until)
        proxy.lose_answer(0)
        assert sorted(one.job.id for one in claims) == ids
        assert store.renew("boot/1", later()) == 3
        assert {job(store, job_id).lease.token for job_id in ids} == {1}
    proxy.close()


@pytest.mark.parametrize("number", range(1, 5))
def test_whatever_answer_is_lost_a_change_can_be_repeated(
    own_mongodb_server: MongoServer, mongodb_database: Database, number: int
) -> None:
    store, proxy = _losing(mongodb_database, own_mongodb_server.port)
    with store:
        ids = store.insert([a_job(), a_job()])
        changes = [Change(one.job, S.TO_BE_SUBMITTED, why="route a") for one in claim(store)]
        proxy.lose_answer(number)
        try:
            lost = store.apply(changes, "boot/1", now())
        except StoreUnavailable:
            lost = store.apply(changes, "boot/1", now())
        proxy.lose_answer(0)
        assert lost == set()
        assert [len(document(store, job_id)["history"]) for job_id in ids] == [2, 2]
    proxy.close()


@pytest.mark.parametrize("number", [1, 2])
def test_whatever_answer_is_lost_an_insert_can_be_repeated(
    own_mongodb_server: MongoServer, mongodb_database: Database, number: int
) -> None:
    store, proxy = _losing(mongodb_database, own_mongodb_server.port)
    with store:
        documents = [a_job(), a_job(_id="mine")]
        proxy.lose_answer(number)
        with pytest.raises(StoreUnavailable):
            store.insert(documents)
        assert len(store.insert(documents)) == 2
        assert store.count() == {"to be built": 2}
        with pytest.raises(StoreError, match="already"):
            store.insert(documents)
    proxy.close()


def test_an_embedded_database_that_is_removed_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "execd.db"
    with made(Database(url=f"sqlite:///{path}")) as store:
        store.insert([a_job()])
        for name in ("", "-wal", "-shm"):
            path.with_name(path.name + name).rename(tmp_path / f"away{name}")
        with pytest.raises(StoreUnavailable, match="is gone"):
            store.insert([a_job()])
        for name in ("", "-wal", "-shm"):
            (tmp_path / f"away{name}").rename(path.with_name(path.name + name))
        assert apply(store, claim_job(store), S.TO_BE_BUILT)
