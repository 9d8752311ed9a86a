"""What a registry of engines promises, on each database."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import timedelta

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import StoreError
from execution_engine.store import open_store
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.job_store import JobStore
from tests.support.engine_records import an_engine
from tests.support.jobs import now
from tests.support.store_fixtures import MakeStore


def test_an_engine_that_signed_in_is_seen_by_all_others_as_it_signed_in(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    record = an_engine()
    one.engines.sign_in(record)
    assert other.engines.all() == [record]


def test_a_record_with_fields_of_another_version_is_read() -> None:
    record = an_engine()
    assert EngineRecord.of({**asdict(record), "lanes": list(record.lanes), "colour": "blue"}) == record


def test_the_longest_running_engine_comes_first(store: JobStore) -> None:
    for number, minutes in enumerate((2, 3, 1)):
        store.engines.sign_in(an_engine(f"e{number}", started=now() - timedelta(minutes=minutes)))
    assert [record.id for record in store.engines.all()] == ["e1", "e0", "e2"]


def test_a_beat_is_seen_by_others_with_all_that_changed(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    one.engines.sign_in(an_engine())
    changed = an_engine(beats=1, lanes=("here@node7",))
    assert one.engines.beat(changed)
    assert other.engines.all() == [changed]


def test_an_engine_that_signed_out_is_gone_and_signing_out_again_does_no_harm(store: JobStore) -> None:
    store.engines.sign_in(an_engine())
    store.engines.sign_in(an_engine("other"))
    store.engines.sign_out("node7-1")
    store.engines.sign_out("node7-1")
    assert [record.id for record in store.engines.all()] == ["other"]


def test_an_engine_is_declared_dead_only_while_its_counter_stands_still(store: JobStore) -> None:
    store.engines.sign_in(an_engine(beats=7))
    assert not store.engines.declare_dead("node7-1", 6)
    assert store.engines.beat(an_engine(beats=8))
    assert not store.engines.declare_dead("node7-1", 7)
    assert store.engines.declare_dead("node7-1", 8)
    assert not store.engines.declare_dead("node7-1", 8)


def test_an_engine_that_was_declared_dead_learns_it_from_its_next_beat_and_does_not_come_back_by_it(store: JobStore) -> None:
    store.engines.sign_in(an_engine())
    store.engines.declare_dead("node7-1", 0)
    assert not store.engines.beat(an_engine(beats=1))
    assert store.engines.all() == []


def test_signing_in_twice_leaves_one_record(store: JobStore) -> None:
    store.engines.sign_in(an_engine())
    store.engines.sign_in(an_engine(beats=3))
    assert [record.beats for record in store.engines.all()] == [3]


def _declare(database: Database, engine: str) -> bool:
    with open_store(database, SystemClock()) as store:
        return store.engines.declare_dead(engine, 5)


def test_of_four_observers_in_four_processes_one_declares_an_engine_dead(database: Database) -> None:
    store = open_store(database, SystemClock())
    store.boot(create=True)
    store.engines.sign_in(an_engine(beats=5))
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("forkserver")) as pool:
        outcomes = [future.result() for future in [pool.submit(_declare, database, "node7-1") for _ in range(4)]]
    store.close()
    assert sorted(outcomes) == [False, False, False, True]


def test_the_registry_of_a_database_that_is_not_there_raises_store_errors(tmp_path) -> None:
    with open_store(Database(url=f"sqlite:///{tmp_path / 'none.db'}"), SystemClock()) as store, pytest.raises(StoreError):
        store.engines.all()
