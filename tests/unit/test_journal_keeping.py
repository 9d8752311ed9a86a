"""The way of an event to the journal: the master keeps it until the monitor has stored it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.config import Log
from execution_engine.engine.channel import Channel
from execution_engine.engine.chronicle import Chronicle
from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.events import Record
from execution_engine.logger import Logger
from execution_engine.logger.wording import KEPT, WORDINGS
from execution_engine.master.relay import Relay
from execution_engine.store.journal import Entry
from execution_engine.store.sqlite import SqliteJobStore
from tests.support.clocks import HeldClock

DAY = 86400.0


@pytest.fixture
def relay(tmp_path: Path) -> Relay:
    relay = Relay(Logger(Log(file=tmp_path / "log"), terminal=None))
    relay.engine = "e1"
    return relay


@pytest.fixture
def chronicle(store: SqliteJobStore, clock: HeldClock) -> Chronicle:
    chronicle = Chronicle(store.journal, "e2", clock)
    chronicle.keep = 30 * DAY
    return chronicle


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """The master's end and the monitor's."""
    master, monitor = Channel.pair()
    yield master, monitor
    master.close()
    monitor.close()


def died(**facts: Any) -> Record:
    return {"event": "monitor.died", "at": 0.0, "process": "master", "pid": 1, "how": "signal SIGKILL", **facts}


def received(monitor: Channel) -> list[Record]:
    records = []
    while (message := monitor.receive()) is not None:
        records.append(message["journal"])
    return records


def test_every_event_goes_to_the_log_and_only_what_an_engine_did_by_itself_to_the_journal(
    relay: Relay, ends: tuple[Channel, Channel], tmp_path: Path
) -> None:
    for event in WORDINGS:
        relay.handle([{"event": event, "at": 0.0, "process": "x", "pid": 1}])
    relay.hand_over(ends[0])
    assert {record["event"] for record in received(ends[1])} == KEPT
    assert "job ? ? → ?" in (tmp_path / "log").read_text()
    assert "job.transition" not in KEPT


def test_an_event_is_handed_over_once_and_again_to_the_next_monitor_if_the_first_did_not_store_it(
    relay: Relay, ends: tuple[Channel, Channel]
) -> None:
    relay.handle([died(number=1)])
    relay.handle([died(number=2)])
    relay.hand_over(ends[0])
    relay.hand_over(ends[0])
    first = received(ends[1])
    assert [record["number"] for record in first] == [1, 2]
    relay.stored(1)
    relay.renew()
    relay.hand_over(ends[0])
    assert received(ends[1]) == first[1:], "with the same id, so that it is stored once"


def test_events_of_one_moment_keep_their_order(relay: Relay, ends: tuple[Channel, Channel]) -> None:
    for number in range(20):
        relay.handle([died(number=number)])
    relay.hand_over(ends[0])
    records = received(ends[1])
    assert [record["number"] for record in sorted(records, key=lambda record: (record["at"], record["id"]))] == list(range(20))


def test_a_monitor_that_does_not_read_costs_no_time_and_of_too_many_events_the_latest_are_kept(
    relay: Relay, ends: tuple[Channel, Channel]
) -> None:
    for number in range(3000):
        relay.handle([died(number=number)])
        relay.hand_over(ends[0])
    kept = []
    while records := received(ends[1]):
        kept += [record["number"] for record in records]
        relay.stored(len(records))
        relay.hand_over(ends[0])
    assert kept[-1000:] == list(range(2000, 3000))
    assert len(kept) <= 1050


def test_an_event_says_to_which_engine_it_happened(chronicle: Chronicle, store: SqliteJobStore) -> None:
    chronicle.add(died(id="1", engine="e1"))
    chronicle.add(died(id="2", at=1.0, engine=""))
    assert chronicle.turn() == 2
    assert [entry.engine for entry in store.journal.select()] == ["e1", "e2"]


def test_an_event_is_found_by_each_of_its_jobs(chronicle: Chronicle, store: SqliteJobStore) -> None:
    chronicle.add({"event": "jobs.released", "at": 0.0, "id": "1", "jobs": ["a", "b"], "count": 2, "owner": "e/1"})
    chronicle.add({"event": "job.adopted", "at": 1.0, "id": "2", "job": "b"})
    chronicle.turn()
    assert [entry.event for entry in store.journal.select(job="b")] == ["jobs.released", "job.adopted"]
    assert [entry.facts.get("count") for entry in store.journal.select(job="a")] == [2]


def test_what_cannot_be_stored_now_is_stored_later_and_once(chronicle: Chronicle, store: SqliteJobStore, tmp_path: Path) -> None:
    chronicle.turn()
    chronicle.add(died(id="1"))
    files = [file.rename(tmp_path / f"away-{file.name}") for file in tmp_path.glob("execd.db*")]
    with pytest.raises(StoreUnavailable):
        chronicle.turn()
    for file in files:
        file.rename(tmp_path / file.name.removeprefix("away-"))
    assert [chronicle.turn(), chronicle.turn()] == [1, 0]
    assert len(store.journal.select()) == 1


ODD = ["\ud800", "nul\0", 1 << 70, float("inf"), {"$set": {"a.b": 1}}, [["deep"]], None]
LONG = ["x" * 100_000, "\N{OLD ITALIC LETTER A}" * 100_000, ["\N{GREEK SMALL LETTER PI}" * 300] * 2000]


@pytest.mark.parametrize("odd", [*ODD, *LONG], ids=lambda odd: str(odd)[:10].encode("unicode_escape").decode())
def test_no_fact_keeps_the_event_or_others_from_being_stored(
    relay: Relay, ends: tuple[Channel, Channel], chronicle: Chronicle, store: SqliteJobStore, odd: Any
) -> None:
    relay.handle([died(odd=odd, jobs=odd, also=odd, problems=odd, engine=odd, **{"$bad.name\0": 1})])
    relay.handle([{"event": "outage.begun", "what": "system cluster"}])
    relay.hand_over(ends[0])
    for record in received(ends[1]):
        chronicle.add(record)
    assert chronicle.turn() == 2
    assert [entry.facts.get("how", entry.facts.get("what")) for entry in store.journal.select()] == [
        "signal SIGKILL",
        "system cluster",
    ]


def test_an_event_with_more_facts_than_a_packet_holds_is_told_without_them(relay: Relay, ends: tuple[Channel, Channel]) -> None:
    relay.handle([died(**{f"fact_{number}": "x" for number in range(20_000)})])
    relay.hand_over(ends[0])
    (record,) = received(ends[1])
    assert set(record) == {"event", "engine", "at", "id"}


def test_the_jobs_of_an_event_are_all_told_where_there_is_room(relay: Relay, ends: tuple[Channel, Channel]) -> None:
    jobs = [f"{number:024x}" for number in range(1000)]
    relay.handle([{"event": "jobs.released", "jobs": jobs, "owner": "e/1"}])
    relay.hand_over(ends[0])
    (record,) = received(ends[1])
    assert record["jobs"] == jobs


def test_entries_that_are_older_than_what_is_kept_are_removed_now_and_then(
    chronicle: Chronicle, store: SqliteJobStore, clock: HeldClock
) -> None:
    chronicle.turn()
    chronicle.add(died(id="1", at=clock.now().timestamp()))
    chronicle.turn()
    clock.move(29 * DAY)
    chronicle.turn()
    assert len(store.journal.select()) == 1
    clock.move(2 * DAY)
    chronicle.turn()
    assert store.journal.select() == []


def test_many_old_entries_are_removed_a_lot_at_a_time(chronicle: Chronicle, store: SqliteJobStore, clock: HeldClock) -> None:
    for number in range(1000):
        chronicle.add(died(id=str(number), at=clock.now().timestamp()))
    chronicle.turn()
    clock.move(31 * DAY)
    turns = 0
    while left := len(store.journal.select()):
        chronicle.turn()
        removed = left - len(store.journal.select())
        assert 0 < removed <= 200
        turns += 1
        clock.move(1.0)
    assert turns >= 5


def test_entries_that_cannot_be_removed_do_not_hold_up_those_to_be_stored(
    chronicle: Chronicle, store: SqliteJobStore, clock: HeldClock, tmp_path: Path
) -> None:
    store.journal.append([Entry(clock.now() - timedelta(days=99), "monitor.died", "e1", (), {}, "old")])
    with sqlite3.connect(tmp_path / "execd.db") as other:
        other.execute("CREATE TRIGGER refused BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'refused'); END")
    chronicle.add(died(id="new"))
    with pytest.raises(StoreError, match="refused"):
        chronicle.turn()
    assert chronicle.turn() == 1
