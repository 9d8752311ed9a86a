"""How an engine shows that it lives and judges whether others do: on a real embedded database, with clocks that a test moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from execution_engine import events
from execution_engine.engine import machine
from execution_engine.engine.presence import Presence
from execution_engine.engine.releases import Releases
from execution_engine.errors import DaemonError, LeaseLost
from execution_engine.jobs.status import Status
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, claim, job

LEASE = 60.0
PATIENCE = LEASE + 5


@pytest.fixture
def told() -> Iterator[list[events.Record]]:
    """The events that were emitted."""
    records: list[events.Record] = []
    events.send_to(records.extend, process="test")
    yield records
    events.send_to(events.discard, process="test")


class Observer:
    """An engine that looks around."""

    def __init__(self, store: SqliteJobStore, clock: HeldClock, name: str = "me") -> None:
        self._clock = clock
        self.releases = Releases(store, clock)
        self.presence = Presence(store.engines, name, Path("/run/me"), self.releases, clock)
        self.presence.serve(["here@node7-1", "cluster"], LEASE)

    def watch(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Lets time pass, a turn each second."""
        for _ in range(int(seconds)):
            self._clock.move(1.0)
            meanwhile()
            self.presence.turn()


def other(store: SqliteJobStore, clock: HeldClock, **facts: object) -> EngineRecord:
    """Another engine, signed in, on the same kernel unless `facts` say otherwise."""
    record = EngineRecord(
        id="other",
        host="node7",
        kernel=machine.kernel(),
        pid=1,
        run_dir="/run/other",
        started=clock.now(),
        lease=LEASE,
        lanes=("here@node7-1",),
        beats=1,
        beat_at=clock.now(),
    )
    store.engines.sign_in(replace(record, **facts))  # type: ignore[arg-type]
    return replace(record, **facts)  # type: ignore[arg-type]


class Beating:
    """Makes the other engine beat."""

    def __init__(self, store: SqliteJobStore, record: EngineRecord) -> None:
        self._store = store
        self._record = record

    def __call__(self) -> bool:
        self._record = replace(self._record, beats=self._record.beats + 1)
        return self._store.engines.beat(self._record)


def test_the_record_says_who_and_where_the_engine_is(store: SqliteJobStore, clock: HeldClock) -> None:
    Observer(store, clock).presence.turn()
    (record,) = store.engines.all()
    assert (record.id, record.run_dir, record.lease, record.lanes) == ("me", "/run/me", LEASE, ("here@node7-1", "cluster"))
    assert record.pid == os.getpid()


def test_the_counter_grows_several_times_in_a_lease_and_is_not_written_at_each_turn(
    store: SqliteJobStore, clock: HeldClock
) -> None:
    me = Observer(store, clock)
    me.watch(LEASE)
    (record,) = store.engines.all()
    assert 5 <= record.beats <= 8


def test_an_engine_that_beats_is_left_alone(store: SqliteJobStore, clock: HeldClock) -> None:
    me, beating = Observer(store, clock), Beating(store, other(store, clock))
    me.watch(3 * LEASE, meanwhile=beating)
    assert beating(), "its record is still there"
    assert not me.releases


def test_the_jobs_of_an_engine_whose_counter_stands_still_are_free_after_its_lease_and_less_than_five_seconds(
    store: SqliteJobStore, clock: HeldClock, told: list[events.Record]
) -> None:
    me = Observer(store, clock)
    me.presence.turn()
    other(store, clock)
    (job_id,) = store.insert([a_job()])
    claim(store, owner="other/building-1")
    me.watch(LEASE)
    assert job(store, job_id).lease.owner == "other/building-1"
    me.watch(PATIENCE - LEASE - 1)
    me.releases.carry_out()
    assert (job(store, job_id).lease.owner, job(store, job_id).status) == (None, Status.BUILDING)
    assert [record.id for record in store.engines.all()] == ["me"]
    assert [record["event"] for record in told] == ["engine.dead", "jobs.recovered"]
    assert told[1]["jobs"] == [str(job_id)]


def test_an_engine_is_judged_by_its_own_lease(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    other(store, clock, lease=6.0)
    me.watch(12)
    assert me.releases


def test_no_clock_of_another_machine_is_believed(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    beating = Beating(store, other(store, clock, beat_at=clock.now().replace(year=2001), started=clock.now().replace(year=2001)))
    me.watch(2 * LEASE, meanwhile=beating)
    assert beating()


def test_what_happened_while_nobody_could_look_speaks_against_no_engine(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    other(store, clock)
    me.watch(5)
    clock.move(10 * LEASE)  # an outage of the database, in which nobody could beat
    me.watch(LEASE)
    assert not me.releases
    me.watch(PATIENCE - LEASE)
    assert me.releases


def test_of_two_observers_one_declares_the_dead_one_dead(
    store: SqliteJobStore, clock: HeldClock, told: list[events.Record]
) -> None:
    me, also = Observer(store, clock), Observer(store, clock, "also")
    other(store, clock)
    me.watch(2 * LEASE, meanwhile=also.presence.turn)
    assert [record["dead"] for record in told] == ["other"]
    assert bool(me.releases) != bool(also.releases)


def test_an_engine_that_was_declared_dead_must_not_go_on(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    me.presence.turn()
    assert store.engines.declare_dead("me", 1)
    with pytest.raises(LeaseLost, match="declared dead"):
        me.watch(LEASE)


def test_a_machine_that_cannot_be_told_from_another_one_is_refused(store: SqliteJobStore, clock: HeldClock) -> None:
    beating = Beating(store, other(store, clock, kernel="another boot/1"))
    clock.move(1)
    me = Observer(store, clock)
    worked = []
    with pytest.raises(DaemonError, match=r"other.*here@node7-1.*machine-id"):
        me.watch(LEASE, meanwhile=lambda: (beating(), worked.append(me.presence.may_work)))
    assert not any(worked), "it has not touched a job before it knew"


def test_the_one_that_was_there_first_is_not_the_one_that_is_refused(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    clock.move(1)
    me.watch(LEASE, meanwhile=Beating(store, other(store, clock, kernel="another boot/1")))


@pytest.mark.parametrize("facts", [{"lanes": ("cluster",)}, {"lanes": ("here@node8-1",)}, {}], ids=["cluster", "host", "same"])
def test_engines_that_share_no_host_or_see_the_same_processes_get_along(
    store: SqliteJobStore, clock: HeldClock, facts: dict[str, object]
) -> None:
    beating = Beating(store, other(store, clock, **({"kernel": "another boot/1", **facts} if facts else {})))
    clock.move(1)
    me = Observer(store, clock)
    me.presence.turn()
    assert me.presence.may_work, "at once"
    me.watch(LEASE, meanwhile=beating)


def test_a_record_from_before_a_reboot_of_this_machine_is_no_rival(
    store: SqliteJobStore, clock: HeldClock, told: list[events.Record]
) -> None:
    other(store, clock, kernel="the boot before/1")
    clock.move(1)
    me = Observer(store, clock)
    me.watch(LEASE / 3)
    assert not me.presence.may_work, "it is not known yet whether it is a rival"
    me.watch(LEASE / 6)
    assert me.presence.may_work
    assert [record["event"] for record in told] == ["engine.waiting"]
    me.watch(PATIENCE)
    assert me.releases, "nobody beats for it"


def test_the_lanes_of_all_engines_are_served_by_somebody(store: SqliteJobStore, clock: HeldClock) -> None:
    me = Observer(store, clock)
    me.presence.turn()
    other(store, clock, lanes=("here@node8-1",))
    me.presence.serve(["new@node7-1"], LEASE)
    assert me.presence.lanes_of_all() == {"new@node7-1", "here@node8-1"}
