"""How many jobs the submit actor may claim, also ahead of the slots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_engine.engine.room import AHEAD, Room
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem
from tests.support.clocks import HeldClock
from tests.support.engine_records import an_engine
from tests.support.execution_systems import commands, local
from tests.support.jobs import a_job

LANE = "here@machine"


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def store(tmp_path: Path, clock: HeldClock) -> Iterator[SqliteJobStore]:
    with SqliteJobStore(tmp_path / "execd.db", clock) as store:
        store.boot(create=True)
        store.engines.sign_in(an_engine("this", lanes=(LANE,)))
        yield store


@pytest.fixture
def system(tmp_path: Path) -> ExecutionSystem:
    return local(Context("here", tmp_path), slots=2)


def test_at_first_and_while_no_job_starts_only_free_slots_count(
    store: SqliteJobStore, clock: HeldClock, system: ExecutionSystem
) -> None:
    room = Room(LANE, store, clock)
    assert room.free(system) == 2
    store.insert([{**a_job(), "status": "running", "execution": {"lane": LANE, "system": "here", "job_no": "1.1"}}])
    assert room.free(system) == 1
    assert room.taken == 1


def test_short_jobs_are_claimed_ahead_as_many_as_started_in_the_last_moment(
    store: SqliteJobStore, clock: HeldClock, system: ExecutionSystem
) -> None:
    room = Room(LANE, store, clock)
    for _ in range(10):
        room.started(cores=2)
    assert room.free(system) == 2 + 20
    clock.move(AHEAD * 1.1)
    assert room.free(system) == 2, "none has started for a while: they are long"


def test_nothing_is_taken_ahead_while_another_engine_serves_the_lane(
    store: SqliteJobStore, clock: HeldClock, system: ExecutionSystem
) -> None:
    room = Room(LANE, store, clock)
    other = an_engine("other", lanes=(LANE,))
    store.engines.sign_in(other)
    room.started(cores=1)
    assert room.free(system) == 2
    store.engines.sign_out(other.id)
    clock.move(1.1)
    room.started(cores=1)
    assert room.free(system) == 3


def test_a_system_that_starts_at_once_or_refuses_gets_what_it_has_slots_for(
    store: SqliteJobStore, clock: HeldClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = commands(Context("queue", tmp_path))
    room = Room(LANE, store, clock)
    room.started(cores=1)
    assert room.free(system) is None
    monkeypatch.setattr(system, "slots", lambda: 3)
    assert room.free(system) == 3
