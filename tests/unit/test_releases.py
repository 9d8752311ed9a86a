"""How the jobs of a dead actor or engine become free, on a real embedded database that refuses a write in the midst of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from execution_engine.engine.presence import Presence
from execution_engine.engine.releases import Releases
from execution_engine.errors import StoreError
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, claim


@pytest.fixture
def releases(store: SqliteJobStore, clock: HeldClock) -> Releases:
    return Releases(store, clock)


@contextmanager
def refused(database: Path, write: str) -> Iterator[None]:
    """The database refuses this write (`UPDATE ON jobs`)."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"CREATE TRIGGER refused BEFORE {write} BEGIN SELECT RAISE(ABORT, 'refused'); END")
        yield
        other.execute("DROP TRIGGER refused")


@pytest.fixture
def dead(store: SqliteJobStore, clock: HeldClock, releases: Releases) -> str:
    """An engine that signed in, and died while an actor of it held a job."""
    presence = Presence(store.engines, "dead", Path("/run/dead"), releases, clock)
    presence.serve(["cluster"], 60.0)
    presence.turn()
    store.insert([a_job()])
    claim(store, owner="dead/building-1")
    return "dead"


def test_a_dead_engine_is_in_the_registry_until_its_jobs_are_free(
    store: SqliteJobStore, releases: Releases, dead: str, tmp_path: Path
) -> None:
    """Whoever frees them may die in the midst of it: the others find out by that record that something is left to do."""
    releases.add_engine(dead)
    with refused(tmp_path / "execd.db", "UPDATE ON jobs"), pytest.raises(StoreError, match="refused"):
        releases.carry_out()
    assert [record.id for record in store.engines.all()] == [dead]
    assert releases, "it is still to be done"
    releases.carry_out()
    assert (store.engines.all(), bool(releases)) == ([], False)
    assert len(claim(store, owner="other/building-1")) == 1


def test_an_engine_that_could_not_be_taken_out_of_the_registry_is_taken_out_later(
    store: SqliteJobStore, releases: Releases, dead: str, tmp_path: Path
) -> None:
    releases.add_engine(dead)
    with refused(tmp_path / "execd.db", "DELETE ON engines"), pytest.raises(StoreError, match="refused"):
        releases.carry_out()
    releases.carry_out()
    assert (store.engines.all(), bool(releases)) == ([], False)
