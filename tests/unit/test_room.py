"""How many jobs the submit actor may claim, also ahead of the slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution_engine.engine.room import AHEAD, Room
from execution_engine.store.job_store import Cores
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem
from tests.support.clocks import HeldClock
from tests.support.engine_records import an_engine
from tests.support.execution_systems import commands, local
from tests.support.jobs import a_job

LANE = "here@machine"


@pytest.fixture(autouse=True)
def this_engine(store: SqliteJobStore) -> None:
    store.engines.sign_in(an_engine("this", lanes=(LANE,)))


@pytest.fixture
def system(tmp_path: Path) -> ExecutionSystem:
    return local(Context("here", tmp_path), slots=2)


@pytest.fixture
def room(store: SqliteJobStore, clock: HeldClock) -> Room:
    return Room(LANE, "this", store, clock)


def test_at_first_and_while_no_job_starts_only_free_slots_count(
    store: SqliteJobStore, room: Room, system: ExecutionSystem
) -> None:
    assert room.look(system) == Cores(2, slots=2)
    store.insert([{**a_job(), "status": "running", "execution": {"lane": LANE, "system": "here", "job_no": "1.1"}}])
    assert room.look(system) == Cores(1, slots=2)


def test_short_jobs_are_claimed_ahead_as_many_as_started_in_the_last_moment(
    room: Room, clock: HeldClock, system: ExecutionSystem
) -> None:
    for cores in (1, 1):
        room.started(cores)
    assert room.look(system) == Cores(2, slots=2), "no more than there are slots: they may be long"
    for cores in (2, 1):
        room.started(cores)
    assert room.look(system) == Cores(2, ahead=3, widest=2, slots=2)
    clock.move(AHEAD * 1.1)
    assert room.look(system) == Cores(2, slots=2), "none has started for a while: they are long"


def test_nothing_is_taken_ahead_while_another_engine_serves_the_lane(
    store: SqliteJobStore, room: Room, system: ExecutionSystem
) -> None:
    other = an_engine("other", lanes=(LANE,))
    store.engines.sign_in(other)
    room.started(cores=3)
    assert room.look(system) == Cores(2, slots=2)
    store.engines.sign_out(other.id)
    assert room.look(system) == Cores(2, ahead=1, widest=3, slots=2)


def test_an_engine_that_was_declared_dead_takes_nothing_ahead(store: SqliteJobStore, room: Room, system: ExecutionSystem) -> None:
    store.engines.sign_in(an_engine("other", lanes=(LANE,)))
    store.engines.sign_out("this")
    room.started(cores=3)
    assert room.look(system) == Cores(2, slots=2)


def test_nothing_is_taken_ahead_while_a_job_runs_that_the_system_does_not_count(
    room: Room, system: ExecutionSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.started(cores=3)
    monkeypatch.setattr(system, "keeps_all", lambda _jobs: False)
    assert room.look(system) == Cores(2, slots=2)


def test_a_system_that_starts_at_once_or_refuses_gets_what_it_has_slots_for(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = commands(Context("queue", tmp_path))
    room.started(cores=3)
    assert room.look(system) is None
    monkeypatch.setattr(system, "slots", lambda: 3)
    assert room.look(system) == Cores(3, slots=3)
