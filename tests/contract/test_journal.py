"""What a journal of events promises, on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from bson import ObjectId

from execution_engine.store.job_store import JobStore
from execution_engine.store.journal import Entry
from tests.support.jobs import now
from tests.support.store_fixtures import MakeStore


def an_entry(event: str = "monitor.died", ago: float = 0, **more: Any) -> Entry:
    entry = Entry(now() - timedelta(seconds=ago), event, "node7-1", (), {"how": "signal SIGKILL"}, str(ObjectId()))
    return replace(entry, **more)


def events(entries: list[Entry]) -> list[str]:
    return [entry.event for entry in entries]


def test_an_entry_is_read_by_others_as_it_was_written(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    entry = an_entry(jobs=("65f1", "mine"), facts={"why": "späť", "count": 2, "problems": ["a", "b"], "none": None})
    one.journal.append([entry])
    assert other.journal.select() == [entry]


def test_entries_come_the_oldest_first_whatever_the_order_in_which_they_were_stored(store: JobStore) -> None:
    store.journal.append([an_entry("b", ago=2), an_entry("c", ago=1)])
    store.journal.append([an_entry("a", ago=3)])
    assert events(store.journal.select()) == ["a", "b", "c"]


def test_of_too_many_entries_the_latest_are_shown(store: JobStore) -> None:
    store.journal.append([an_entry(name, ago=10 - number) for number, name in enumerate("abcde")])
    assert events(store.journal.select(limit=2)) == ["d", "e"]


def test_entries_of_one_moment_stay_in_the_order_in_which_they_were_made(store: JobStore) -> None:
    moment = now()
    store.journal.append([an_entry(name, at=moment) for name in "abcde"])
    assert events(store.journal.select()) == list("abcde")


def test_the_entries_of_a_job_are_those_that_name_it(store: JobStore) -> None:
    store.journal.append([an_entry("both", ago=2, jobs=("1", "2")), an_entry("other", ago=1, jobs=("12",)), an_entry("none")])
    store.journal.append([an_entry("mine", jobs=("1",))])
    assert events(store.journal.select(job="1")) == ["both", "mine"]
    assert events(store.journal.select(job="1", limit=1)) == ["mine"]
    assert events(store.journal.select(job="1", since=now() - timedelta(seconds=1))) == ["mine"]
    assert store.journal.select(job="3") == []


def test_entries_of_some_names_are_found_among_many_others(store: JobStore) -> None:
    store.journal.append([an_entry(name, ago=20 - number, jobs=("1",)) for number, name in enumerate("ab" + 15 * "c")])
    assert events(store.journal.select(limit=2, events=["b", "a", "d"])) == ["a", "b"]
    assert events(store.journal.select(job="1", since=now() - timedelta(seconds=19.5), events=["a", "b"])) == ["b"]
    assert events(store.journal.select(events=["d"])) == []


def test_entries_since_a_moment_include_the_one_at_that_moment(store: JobStore) -> None:
    at = now() - timedelta(seconds=5)
    store.journal.append([an_entry("before", ago=6), an_entry("then", at=at), an_entry("after")])
    assert events(store.journal.select(since=at)) == ["then", "after"]


def test_what_is_stored_again_because_the_answer_was_lost_is_there_once(store: JobStore) -> None:
    first, second = an_entry("first", ago=1, jobs=("1",)), an_entry("second", jobs=("1",))
    store.journal.append([first])
    store.journal.append([first, second])
    assert events(store.journal.select()) == ["first", "second"]
    assert events(store.journal.select(job="1")) == ["first", "second"]


def test_to_append_nothing_does_nothing(store: JobStore) -> None:
    store.journal.append([])
    assert store.journal.select() == []


def test_entries_that_are_too_old_are_removed_and_counted(store: JobStore) -> None:
    store.journal.append([an_entry("old", ago=100, jobs=("1",)), an_entry("older", ago=200), an_entry("new", jobs=("1",))])
    assert store.journal.expire(now() - timedelta(seconds=50), 10) == 2
    assert events(store.journal.select()) == ["new"]
    assert events(store.journal.select(job="1")) == ["new"]
    assert store.journal.expire(now() - timedelta(seconds=50), 10) == 0


def test_of_many_old_entries_the_oldest_are_removed_first(store: JobStore) -> None:
    store.journal.append([an_entry(name, ago=ago, jobs=("1",)) for name, ago in (("b", 200), ("c", 100), ("a", 300), ("new", 0))])
    assert store.journal.expire(now() - timedelta(seconds=50), 2) == 2
    assert events(store.journal.select()) == events(store.journal.select(job="1")) == ["c", "new"]
    assert store.journal.expire(now() - timedelta(seconds=50), 2) == 1
