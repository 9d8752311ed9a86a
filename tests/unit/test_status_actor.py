"""A turn of the status actor: what it costs with tens of thousands of jobs, and whose fault a fault is."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.engine import file_system, status_actor
from execution_engine.engine.actor import Workplace
from execution_engine.engine.assembly import assemble, lane
from execution_engine.engine.channel import Channel
from execution_engine.engine.status_actor import StatusActor
from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change, JobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Options
from tests.support.building import configuration
from tests.support.engines import leave_exit_record
from tests.support.jobs import a_job, document, job
from tests.support.store_fixtures import MakeStore

MANY = 20_000


class Queue(ExecutionSystem):
    """A system with a queue, which it lists by the names of the jobs."""

    def __init__(self, root: Path, statuses: dict[str, Status]) -> None:
        super().__init__(Context("here", root), Options())
        self.statuses = statuses

    def run(self, job: Job) -> str:
        raise AssertionError(f"nobody asked for it: {job}")

    def kill(self, job: Job) -> None:
        raise AssertionError(f"nobody asked for it: {job}")

    def get_status(self, job: Job) -> Status:
        return self.statuses.get(str(job.execution.name), Status.UNKNOWN)

    def glance(self, jobs: Sequence[Followed]) -> dict[str, Status]:
        return {job.text_id: self.statuses.get(job.name, Status.UNKNOWN) for job in jobs}


MakeActor = Callable[[JobStore, ExecutionSystem], StatusActor]


@pytest.fixture
def make_actor(tmp_path: Path) -> Iterator[MakeActor]:
    monitor, end = Channel.pair()
    site = assemble(configuration(tmp_path, engine={"actor_linger": 0, "grace": 0}))

    def make(store: JobStore, system: ExecutionSystem) -> StatusActor:
        actor = StatusActor(Workplace(site, store, SystemClock(), end, owner="e/status-1"), "here")
        actor.ask(system)
        return actor

    yield make
    monitor.close()
    end.close()


def on_system(number: int, tmp_path: Path, status: str = "pending") -> dict[str, Any]:
    """A job as it is stored once a system has it, with a history and inputs such as jobs have."""
    execution = {"lane": lane_here(tmp_path), "system": "here", "name": f"n{number}", "job_no": str(number)}
    directory = tmp_path / "jobs" / "p" / "00" / f"job{number}"
    return {
        **a_job(_id=f"job{number}", command=["run", "x" * 200], inputs={"in": "x" * 1000}),
        "status": status,
        "schema": 1,
        "dir": str(directory),
        "attempt": 1,
        "execution": execution,
        "lease": {"owner": None, "token": 2, "until": None, "crashes": 0, "crash": ""},
        "history": [{"status": "pending", "at": SystemClock().now(), "by": "e/status-1", "why": "x" * 50} for _ in range(6)],
    }


def lane_here(tmp_path: Path) -> str:
    return lane(assemble(configuration(tmp_path)).systems["here"])


def test_a_turn_with_20000_pending_jobs_is_cheap(
    tmp_path: Path, make_store: MakeStore, make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    one = on_system(0, tmp_path)
    store.insert([{**one, "_id": f"job{each}", "execution": {**one["execution"], "name": f"n{each}"}} for each in range(MANY)])
    actor = make_actor(store, Queue(tmp_path, {f"n{each}": Status.PENDING for each in range(MANY)}))
    read: list[object] = []
    look = status_actor.record_of
    monkeypatch.setattr(status_actor, "record_of", lambda *which: read.append(which) or look(*which))
    actor.turn()
    assert len(read) <= 1000, "not the files of each job in each turn"
    spent = []
    for _ in range(3):
        began = time.process_time()
        actor.turn()
        spent.append(time.process_time() - began)
    assert min(spent) < 0.3
    tracemalloc.start()
    try:
        actor.turn()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20, "and what the process itself needs"


def test_of_many_jobs_those_with_news_are_stored_and_no_record_is_missed(
    tmp_path: Path, make_store: MakeStore, make_actor: MakeActor
) -> None:
    store = make_store()
    number = 1200
    store.insert([on_system(each, tmp_path) for each in range(number)])
    statuses = {f"n{each}": Status.PENDING for each in range(number)}
    statuses["n1"] = Status.RUNNING
    for ended, listed in ((2, False), (number - 1, True)):
        directory = Path(on_system(ended, tmp_path)["dir"])
        (directory / ".execd").mkdir(parents=True)
        leave_exit_record(directory)
        if not listed:
            del statuses[f"n{ended}"]
    actor = make_actor(store, Queue(tmp_path, statuses))
    actor.turn()
    assert job(store, "job1").status is Status.RUNNING
    assert job(store, "job2").status is Status.FINISHED, "the system has it no longer: its record is looked for at once"
    for _ in range(2):
        actor.turn()
    assert job(store, f"job{number - 1}").status is Status.FINISHED, "its system lists it still, its record tells its end"
    assert store.count() == {"pending": number - 3, "running": 1, "finished": 2}


def test_a_file_system_that_comes_back_between_two_looks_costs_no_job_its_record(
    tmp_path: Path, make_store: MakeStore, make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    one = on_system(1, tmp_path, "unknown")
    store.insert([one])
    directory, away = Path(one["dir"]), tmp_path / "away"
    (away / ".execd").mkdir(parents=True)
    leave_exit_record(away)
    look = file_system.fault

    def back_meanwhile(where: str | None, jobs_dir: Path, known: file_system.Place | None) -> file_system.Fault | None:
        directory.parent.mkdir(parents=True)
        away.rename(directory)
        return look(where, jobs_dir, known)

    monkeypatch.setattr(file_system, "fault", back_meanwhile)
    make_actor(store, Queue(tmp_path, {})).turn()
    assert job(store, "job1").status is Status.FINISHED


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FINISHED])
def test_a_job_that_has_changed_when_it_is_claimed_is_given_back_at_once(
    tmp_path: Path, make_store: MakeStore, make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    store = make_store()
    store.insert([on_system(1, tmp_path)])
    actor = make_actor(store, Queue(tmp_path, {"n1": Status.PENDING}))
    actor.careful = True
    now = SystemClock().now()
    due_at = now if status is Status.FINISHED else None
    monkeypatch.setattr(
        actor, "look_at_files", lambda: store.apply([Change(job(store, "job1"), status, due_at=due_at)], "e/other", now)
    )
    actor.turn()
    left = document(store, "job1")
    assert left["status"] == status
    assert left["lease"]["until"] is None
    assert (left["due_at"] is not None) == (status is Status.FINISHED), "its owner is still to be told, and without delay"
    assert left["due_at"] is None or left["due_at"] <= SystemClock().now()


def test_of_many_jobs_with_news_few_are_held_whole_at_a_time(
    tmp_path: Path, make_actor: MakeActor, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that was closed starts all that waited: the memory of the turn does not grow with them."""
    store = make_store()
    number = 1600
    store.insert([on_system(each, tmp_path) for each in range(number)])
    held: list[int] = []
    look = store.on_system

    def looked(*which: Any) -> list[Job]:
        gc.collect()
        held.append(sum(isinstance(each, Job) for each in gc.get_objects()))
        return look(*which)

    monkeypatch.setattr(store, "on_system", looked)
    make_actor(store, Queue(tmp_path, {f"n{each}": Status.RUNNING for each in range(number)})).turn()
    assert store.count() == {"running": number}
    assert len(held) > 2
    assert max(held) - held[0] < number / 2
