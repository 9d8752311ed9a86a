"""A building actor and what takes longer than its lease: with a real server of inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from execution_engine import events
from execution_engine.building import build
from execution_engine.clock import Clock, SystemClock
from execution_engine.engine.actor import Workplace
from execution_engine.engine.assembly import assemble
from execution_engine.engine.building_actor import BuildingActor
from execution_engine.engine.channel import Channel
from execution_engine.engine.lifeline import EXIT_OUTAGE
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, job

LEASE = 2.0
PIECES = 12


@contextmanager
def server_of_inputs(before_each_piece: Callable[[], object]) -> Iterator[str]:
    """The URL of an input that comes in pieces."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(PIECES))
            self.end_headers()
            with suppress(ConnectionError):  # who asked may have given up
                for _ in range(PIECES):
                    before_each_piece()
                    self.wfile.write(b"x")
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def make_actor(tmp_path: Path) -> Iterator[Callable[..., BuildingActor]]:
    monitor, end = Channel.pair()
    stores = []

    def make(clock: Clock, owner: str = "e/building-1") -> BuildingActor:
        store = SqliteJobStore(tmp_path / "execd.db", clock)
        store.boot(create=True)
        stores.append(store)
        config = configuration(tmp_path, engine={"lease": LEASE, "actor_linger": 0, "actor_lifetime": 10}, inputs={"urls": True})
        return BuildingActor(Workplace(assemble(config), store, clock, end, owner=owner))

    yield make
    for store in stores:
        store.close()
    monitor.close()
    end.close()


def test_nobody_else_takes_a_job_whose_download_takes_longer_than_the_lease(
    tmp_path: Path, make_actor: Callable[..., BuildingActor]
) -> None:
    clock, taken = SystemClock(), []
    actor = make_actor(clock)
    other = SqliteJobStore(tmp_path / "execd.db", clock)

    def piece() -> None:
        time.sleep(1.5 * LEASE / PIECES)
        with other:
            taken.extend(other.claim(Query(Work.BUILDING), "e/building-2", 10, clock.now(), clock.now()))

    with server_of_inputs(piece) as url:
        actor.store.insert([a_job(inputs={"data": {"source": url}}), a_job()])
        assert actor.run() == 0
    assert not taken
    assert actor.store.count() == {"to be submitted": 2}


def test_a_silence_of_the_server_longer_than_the_lease_holds_nothing_up_where_nobody_else_builds(
    make_actor: Callable[..., BuildingActor],
) -> None:
    clock = HeldClock()
    actor = make_actor(clock)
    with server_of_inputs(lambda: clock.move(LEASE + 1)) as url:
        actor.store.insert([a_job(inputs={"data": {"source": url}}) for _ in range(2)])
        assert actor.run() == 0
    assert actor.store.count() == {"to be submitted": 2}


def test_an_actor_that_is_late_hands_over_what_it_has_built_and_says_what_it_was_at(
    tmp_path: Path, make_actor: Callable[..., BuildingActor]
) -> None:
    clock, told = HeldClock(), []
    actor = make_actor(clock)
    other = SqliteJobStore(tmp_path / "execd.db", clock)

    def stand_still() -> None:
        clock.move(LEASE + 1)
        with other:
            other.claim_one(slow, "e/building-2", clock.now(), clock.now() + timedelta(minutes=1))

    with server_of_inputs(stand_still) as url:
        quick, slow = actor.store.insert([a_job(), a_job(inputs={"data": {"source": url}})])
        events.send_to(told.extend, process="test")
        try:
            assert actor.run() == EXIT_OUTAGE
        finally:
            events.send_to(events.discard, process="test")
    assert job(actor.store, quick).status is Status.TO_BE_SUBMITTED
    assert job(actor.store, slow).lease.owner == "e/building-2"
    assert (told[-1]["event"], told[-1]["doing"]) == ("actor.late", f"building {slow}")


def test_an_actor_that_lost_its_jobs_takes_away_nothing_that_their_new_owner_has_built(
    tmp_path: Path, make_actor: Callable[..., BuildingActor]
) -> None:
    clock, made = HeldClock(), []
    actor = make_actor(clock)
    other = SqliteJobStore(tmp_path / "execd.db", clock)

    def take_over() -> None:
        with other:
            if other.release("e/*", clock.now()):
                other.claim(Query(Work.BUILDING), "f/building-1", 10, clock.now(), clock.now() + timedelta(minutes=1))
                theirs = job(other, second).model_copy(update={"inputs": {}})
                made.append(build(theirs, actor.site.config) / "made by the new owner")
                made[0].touch()

    with server_of_inputs(take_over) as url:
        slow = {"data": {"source": url}}
        _, second = actor.store.insert([a_job(inputs=slow), a_job(inputs=slow)])
        assert actor.run() == EXIT_OUTAGE
    assert made[0].exists()


def test_what_needs_no_download_is_handed_on_and_newcomers_are_built_while_others_wait_for_a_slow_server(
    make_actor: Callable[..., BuildingActor],
) -> None:
    actor = make_actor(SystemClock())
    seen: list[dict[str, int]] = []

    def piece() -> None:
        if len(seen) == PIECES:
            with other:
                other.insert([a_job()])
        with other:
            seen.append(other.count())

    other = SqliteJobStore(Path(actor.site.config.database.url.removeprefix("sqlite:///")), SystemClock())
    with server_of_inputs(piece) as url:
        slow = {"data": {"source": url}}
        actor.store.insert([a_job(inputs=slow), a_job(inputs=slow), a_job(), a_job()])
        assert actor.run() == 0
    assert seen[0] == {"building": 2, "to be submitted": 2}, "before the first download"
    assert seen[PIECES]["to be built"] == 1, "it comes while the second is on its way"
    assert actor.store.count() == {"to be submitted": 5}


def test_what_is_built_is_handed_on_before_all_is(
    tmp_path: Path, make_actor: Callable[..., BuildingActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    def takes_time(*what: Any, **how: Any) -> Path:
        time.sleep(0.02)
        with other:
            left.append(other.count()["building"])
        return build(*what, **how)

    monkeypatch.setattr("execution_engine.engine.building_actor.build", takes_time)
    actor, other = make_actor(SystemClock()), SqliteJobStore(tmp_path / "execd.db", SystemClock())
    actor.store.insert([a_job() for _ in range(20)])
    assert actor.run() == 0
    assert left[0] == 20
    assert left[10] <= 20 - 10 + 3, "stored as it goes: what is built in 50 ms at most is not stored yet"


def test_a_fault_that_only_one_job_meets_is_charged_to_it_alone(
    tmp_path: Path, make_actor: Callable[..., BuildingActor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: Job, *more: Any, **others: Any) -> Path:
        if job.name == "odd":
            raise RecursionError("too deep")
        return build(job, *more, **others)

    monkeypatch.setattr("execution_engine.engine.building_actor.build", fails)
    actor = make_actor(SystemClock())
    odd, *others = actor.store.insert([a_job(name="odd"), a_job(), a_job()])
    assert actor.run() == 0
    assert {job(actor.store, each).status for each in others} == {Status.TO_BE_SUBMITTED}
    lease = job(actor.store, odd).lease
    assert (lease.crashes, "too deep" in lease.crash) == (1, True)


def test_a_link_in_the_place_of_one_project_is_no_outage_for_the_others(
    tmp_path: Path, make_actor: Callable[..., BuildingActor]
) -> None:
    actor = make_actor(SystemClock())
    jobs_dir = actor.site.config.jobs_dir
    jobs_dir.mkdir()
    (jobs_dir / "odd").symlink_to(tmp_path)
    odd, good = actor.store.insert([a_job(project="odd"), a_job(project="good")])
    told: list[dict[str, Any]] = []
    actor.tell = lambda **message: told.append(message)  # type: ignore[method-assign]
    assert actor.run() == 0
    assert job(actor.store, good).status is Status.TO_BE_SUBMITTED
    ended = job(actor.store, odd)
    assert ended.error is not None
    assert (ended.error.kind, "plain directory" in ended.error.message) == ("build failed", True)
    assert not [message for message in told if "outage" in message]
