"""An actor holds its leases by its own loop, and lets go of them when they are another's: with a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from execution_engine import events
from execution_engine.clock import SystemClock
from execution_engine.engine.actor import Actor, Workplace
from execution_engine.engine.assembly import assemble
from execution_engine.engine.channel import Channel
from execution_engine.engine.lifeline import EXIT_OUTAGE
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change, Claimed, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, job

LEASE = 60.0


class Worker(Actor):
    """Claims its jobs, does what the test says with each, and ends them."""

    work = Work.BUILDING

    def __init__(self, place: Workplace, step: Callable[[], object]) -> None:
        super().__init__(place)
        self._step = step
        self.worked_on: list[object] = []

    def turn(self) -> int:
        claims = self.claim()
        for claimed in claims:
            self.beat()
            self.worked_on.append(claimed.job.id)
            self._step()
            self.apply([Change(claimed.job, Status.TO_BE_SUBMITTED)])
        return len(claims)


def others_claim(store: SqliteJobStore, clock: HeldClock) -> list[Claimed]:
    """What another engine gets that asks for work now."""
    return store.claim(Query(Work.BUILDING), "f/building-1", 100, clock.now(), clock.now() + timedelta(seconds=LEASE))


@pytest.fixture
def told() -> Iterator[list[str]]:
    """The names of the events that were emitted."""
    names: list[str] = []
    events.send_to(lambda records: names.extend(record["event"] for record in records), process="test")
    yield names
    events.send_to(events.discard, process="test")


@pytest.fixture
def make_worker(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> Iterator[Callable[..., Worker]]:
    monitor, end = Channel.pair()
    config = configuration(tmp_path, engine={"lease": LEASE, "actor_linger": 0, "actor_lifetime": "1d"})

    def make(step: Callable[[], object], owner: str = "e/building-1") -> Worker:
        return Worker(Workplace(assemble(config), store, clock, end, owner=owner), step)

    yield make
    monitor.close()
    end.close()


def test_an_actor_that_makes_progress_keeps_its_jobs_for_longer_than_one_lease(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker]
) -> None:
    jobs = store.insert([a_job() for _ in range(10)])
    taken: list[Claimed] = []

    def step() -> None:
        clock.move(LEASE / 2)
        taken.extend(others_claim(store, clock))

    worker = make_worker(step)
    assert worker.run() == 0
    assert worker.worked_on == jobs
    assert not taken, "nobody else may have what it works on"


def test_an_actor_that_claims_more_keeps_what_it_holds_already(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker]
) -> None:
    worker, held = make_worker(lambda: None), set()
    for _ in range(8):
        clock.move(LEASE / 4)
        assert not others_claim(store, clock)
        store.insert([a_job()])
        held |= {claimed.job.id for claimed in worker.claim()}
        worker.beat()
    assert len(held) == 8


def test_an_actor_whose_leases_were_taken_away_gives_up_long_before_they_would_have_ended(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker], told: list[str]
) -> None:
    """Its engine was declared dead: the monitor alone stood still."""
    first, second, *_ = store.insert([a_job() for _ in range(6)])

    def step() -> None:
        if len(worker.worked_on) == 2:
            store.release("e/*", clock.now())
            others_claim(store, clock)
        clock.move(LEASE / 5)

    worker = make_worker(step)
    assert worker.run() == EXIT_OUTAGE
    assert worker.worked_on == [first, second]
    assert told[-1] == "actor.late"


def test_an_actor_that_holds_no_lease_at_the_moment_has_none_to_lose(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker]
) -> None:
    store.insert([a_job() for _ in range(2)])
    worker = make_worker(lambda: None)
    while worker.turn():
        clock.move(2 * LEASE)
        worker.beat()
        worker.renew()
    assert store.count() == {"to be submitted": 2}


def test_an_actor_that_stood_still_touches_nothing_that_it_had_not_begun(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker], told: list[str]
) -> None:
    first, second = store.insert([a_job(), a_job()])
    other = make_worker(lambda: None, owner="e/building-2")

    def stand_still() -> None:
        clock.move(LEASE + 1)
        other.run()

    worker = make_worker(stand_still)
    assert worker.run() == EXIT_OUTAGE
    assert worker.worked_on == [first]
    assert other.worked_on == [first, second]
    assert [job(store, each).history[-1].by for each in (first, second)] == ["e/building-2"] * 2
    assert "job.lost" in told, "what it had begun was refused"
    assert told[-1] == "actor.late"


def test_an_actor_that_had_nothing_to_do_for_longer_than_a_lease_is_not_late(
    store: SqliteJobStore, clock: HeldClock, make_worker: Callable[..., Worker], told: list[str]
) -> None:
    worker = make_worker(lambda: None)
    store.insert([a_job()])
    assert worker.run() == 0
    clock.move(2 * LEASE)
    store.insert([a_job()])
    assert worker.run() == 0
    assert "actor.late" not in told
    assert len(worker.worked_on) == 2


def test_nobody_renews_the_leases_of_an_actor_that_does_not_go_on(tmp_path: Path) -> None:
    """By a real clock: a thread that renewed them would do so meanwhile."""
    clock, lease = SystemClock(), 1.0
    monitor, end = Channel.pair()
    config = configuration(tmp_path, engine={"lease": lease, "actor_linger": 0})
    with SqliteJobStore(tmp_path / "real.db", clock) as store:
        store.boot(create=True)
        (job_id,) = store.insert([a_job()])
        ends = []

        def work() -> None:
            ends.append(job(store, job_id).lease.until)
            time.sleep(0.9 * lease)
            ends.append(job(store, job_id).lease.until)

        Worker(Workplace(assemble(config), store, clock, end, owner="e/building-1"), work).run()
    monitor.close()
    end.close()
    assert ends[0] == ends[1]
