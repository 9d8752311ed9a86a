"""What every job store must do with documents: keep them, find them, and not fail over bad ones."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Int64, ObjectId, Regex, Timestamp

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import NoSuchJob, StoreError
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store import open_store
from execution_engine.store.job_store import BrokenJob, Filter, JobStore
from tests.support.jobs import (
    BUILDING,
    REQUEST,
    SUBMIT,
    a_job,
    apply,
    built,
    claim,
    claim_job,
    document,
    ended,
    job,
    later,
    now,
    submitted,
)
from tests.support.store_fixtures import MakeStore

S = Status
NOT_ON_MONGOMOCK = pytest.mark.mongodb

EVERYWHERE: list[Any] = [
    "ünïcode\n\0'\"$(x)",
    1,
    -(1 << 40),
    Int64(5),
    0.1,
    2.0,
    True,
    None,
    [],
    {},
    [1, {"deep": ["x", None]}],
    datetime(2024, 2, 29, 12, 0, 0, 123000, UTC),
    datetime(1969, 7, 20, tzinfo=UTC),
    ObjectId("65f0c0ffee65f0c0ffee65f0"),
    b"\x00\xff",
    Binary(b"1234567890123456", 4),
    Timestamp(1, 2),
    Regex("^a.*", "i"),
]


def stored(store: JobStore, **fields: Any) -> dict[str, Any]:
    (job_id,) = store.insert([a_job(**fields)])
    return document(store, job_id)


def is_sqlite(store: JobStore) -> bool:
    return type(store).__name__ == "SqliteJobStore"


@pytest.mark.parametrize("value", EVERYWHERE, ids=repr)
def test_every_type_of_value_comes_back_as_it_was_stored(store: JobStore, value: Any) -> None:
    found = stored(store, mine=value, deep={"in": value})
    assert (found["mine"], found["deep"]) == (value, {"in": value})
    assert type(found["mine"]) is type(value) or isinstance(found["mine"], int)
    claimed = claim_job(store)
    assert apply(store, claimed, S.TO_BE_SUBMITTED, fields={"dir": "/d"})
    assert document(store, claimed.id)["mine"] == value


@NOT_ON_MONGOMOCK
@pytest.mark.parametrize("value", [{1, 2}, 1j, 1 << 70, {1: "x"}, {"a\0b": 1}], ids=repr)
def test_what_no_document_can_hold_is_refused_and_nothing_is_stored(store: JobStore, value: Any) -> None:
    with pytest.raises(StoreError):
        store.insert([a_job(), a_job(mine=value)])
    assert store.count() == {}


@pytest.mark.parametrize(
    "job_id",
    ["text", "with \"quotes\" and 'ünïcode'", 7, 1 << 40, 1.5, ObjectId("65f0c0ffee65f0c0ffee65f0"), Binary(b"x" * 16, 4)],
    ids=repr,
)
@NOT_ON_MONGOMOCK
def test_any_value_can_be_an_id(store: JobStore, job_id: Any) -> None:
    assert store.insert([a_job(_id=job_id)]) == [job_id]
    assert claim_job(store).id == job_id
    assert store.statuses([job_id, "none"]) == {job_id: S.BUILDING}
    assert store.resolve(str(job_id)) == job_id
    assert store.request([job_id], "kill") == [job_id]


def test_an_id_is_made_where_there_is_none(store: JobStore) -> None:
    (job_id,) = store.insert([a_job()])
    assert isinstance(job_id, ObjectId)
    assert store.insert([]) == []


def test_of_documents_with_an_id_that_is_there_already_none_is_stored(store: JobStore) -> None:
    store.insert([a_job(_id="a", name="first")])
    with pytest.raises(StoreError, match="already"):
        store.insert([a_job(_id="b"), a_job(_id="a"), a_job(_id="c")])
    with pytest.raises(StoreError):
        store.insert([a_job(_id="d"), a_job(_id="d")])
    assert store.count() == {"to be built": 1}
    assert document(store, "a")["name"] == "first"


def test_large_inputs_are_kept_and_read_only_where_they_are_wanted(store: JobStore) -> None:
    large = "x" * 3_000_000
    (job_id,) = store.insert([a_job(inputs={"data": large, "bytes": b"\x00\x01"})])
    building = claim_job(store)
    assert building.inputs == {"data": large, "bytes": b"\x00\x01"}
    assert apply(store, building, S.TO_BE_BUILT)
    store.request([job_id], "kill")
    assert claim_job(store, REQUEST).inputs == {}
    assert document(store, job_id)["inputs"]["data"] == large


HOSTILE: list[dict[str, Any]] = [
    {"lease": "foo"},
    {"lease": {"token": "x", "crashes": "y", "until": 5}},
    {"lease": []},
    {"history": 5},
    {"times": "yesterday"},
    {"due_at": "tomorrow"},
    {"due_at": {"deep": 1}},
    {"execution": None},
    {"schema": 1, "lease": "foo"},
    {"schema": 1, "lease": [{"token": 1}]},
]
HOPELESS: list[dict[str, Any]] = [
    {"schema": 1, "history": 5},
    {"priority": "high"},
    {"priority": [1]},
    {"not_before": "soon"},
    {"resources": 7},
    {"execution": 5},
    {"tags": 5},
]


@NOT_ON_MONGOMOCK
@pytest.mark.parametrize("junk", HOSTILE, ids=repr)
def test_junk_in_fields_that_the_engine_sets_anyway_does_no_harm(store: JobStore, junk: dict[str, Any]) -> None:
    store.insert([a_job(name="junk", **junk), a_job(name="good")])
    assert store.due([BUILDING], now()) == {BUILDING}
    claims = [claimed for _ in range(2) for claimed in claim(store)]
    assert {claimed.job.name for claimed in claims if isinstance(claimed.job, Job)} >= {"good"}
    for claimed in claims:
        assert apply(store, claimed.job, S.ERROR)
    assert store.count() == {"error": 2}


@NOT_ON_MONGOMOCK
@pytest.mark.parametrize("junk", HOPELESS, ids=repr)
def test_a_hostile_document_ends_in_error_and_the_others_go_on(store: JobStore, junk: dict[str, Any]) -> None:
    bad, good = store.insert([a_job(name="bad", **junk), a_job(name="good")])
    claims = [claimed.job for _ in range(2) for claimed in claim(store)]
    assert good in [one.id for one in claims if isinstance(one, Job)]
    for one in claims:
        if isinstance(one, BrokenJob):
            assert apply(store, one, S.ERROR, fields={"error": {"kind": "invalid job", "message": "; ".join(one.problems)}})
    found = document(store, bad)
    assert (found["status"], found["error"]["kind"]) == ("error", "invalid job")
    assert not claim(store, owner="boot/2")


@NOT_ON_MONGOMOCK
def test_a_change_that_the_document_cannot_take_ends_it_in_error(store: JobStore) -> None:
    bad, good = submitted(store), submitted(store)
    assert apply(store, bad, S.RUNNING, fields={"exit": None})
    pair = [job(store, bad.id), good]
    assert apply(store, pair[0], S.FINISHED, fields={"exit.code": 0})
    assert apply(store, pair[1], S.FINISHED, fields={"exit": {"code": 0}})
    assert document(store, bad.id)["error"]["kind"] == "invalid job"
    assert [job(store, one.id).status for one in (bad, good)] == [S.ERROR, S.FINISHED]


def test_a_document_that_its_app_breaks_while_it_runs_is_still_followed(make_store: MakeStore) -> None:
    store = make_store()
    running = submitted(store)
    assert apply(store, running, S.RUNNING, fields={"tags": 5})
    (found,) = store.on_system("here")
    assert (found.id, found.execution.job_no, found.lease.token) == (running.id, "7", running.lease.token)


@pytest.fixture
def roomy_store(database: Database) -> Iterator[JobStore]:
    """A store on a server that has room for large documents; those of a set in the tests have a small cache."""
    with open_store(database, SystemClock()) as store:
        store.boot(create=True)
        yield store


def test_a_claim_holds_little_of_what_large_jobs_hold(roomy_store: JobStore, tmp_path: Path) -> None:
    store, large = roomy_store, "x" * (8 << 20)
    ids = [store.insert([a_job(inputs={"data": large})])[0] for _ in range(12)]
    notes = [store.insert([a_job(note=large)])[0] for _ in range(8)]
    small = store.insert([a_job(inputs={"data": "x"})])
    seen, left = set(), []
    tracemalloc.start()
    try:
        for number in range(6):
            for claimed in claim(store, owner=f"boot/{number}"):
                seen.add(claimed.job.id)
                if claimed.inputs_left:
                    left.append(claimed.job)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == {*ids, *notes, *small}
    assert {one.id for one in left} == set(ids)
    assert peak < 150 << 20
    for one in left:
        assert isinstance(one, Job)
        assert one.inputs == {}
        whole = store.whole(one)
        assert isinstance(whole, Job)
        assert whole.inputs == {"data": large}
    if is_sqlite(store):
        written = (tmp_path / "execd.db-wal").stat().st_size
        assert apply(store, left[0], S.TO_BE_SUBMITTED, by="x")
        assert (tmp_path / "execd.db-wal").stat().st_size < written + (1 << 20), "inputs are not written again"


def test_what_an_actor_had_begun_comes_first_also_where_there_is_no_room_for_all(roomy_store: JobStore) -> None:
    store = roomy_store
    (begun,) = store.insert([a_job()])
    claim(store, until=later(-1))
    for _ in range(5):
        store.insert([a_job(note="x" * (1 << 20)) for _ in range(8)])
    first, *others = claim(store, owner="boot/2")
    assert (first.job.id, first.was) == (begun, S.BUILDING)
    assert 0 < len(others) < 40


def test_a_job_is_read_whole_only_by_who_has_it(store: JobStore) -> None:
    store.insert([a_job(inputs={"data": "x"})])
    mine = claim_job(store)
    assert mine.inputs == {"data": "x"}
    assert store.whole(mine) == mine
    assert apply(store, mine, S.TO_BE_BUILT)
    assert store.whole(mine) is None


LARGEST = 16 << 20


def almost_full(left: int, field: str, **fields: Any) -> dict[str, Any]:
    """A job's document that leaves so many bytes of what a MongoDB takes."""
    document = a_job(_id=ObjectId(), **fields)
    document[field] = {"a": ""} if field == "inputs" else ""
    filler = "x" * (LARGEST - left - len(bson.encode(document)))
    return {**document, field: {"a": filler} if field == "inputs" else filler}


@pytest.mark.parametrize("left", [0, 10, 60, 100, 300, 600, 900])
@pytest.mark.parametrize("field", ["inputs", "note"])
def test_a_document_that_is_almost_full_costs_no_other_its_turn(roomy_store: JobStore, left: int, field: str) -> None:
    store = roomy_store
    store.insert([almost_full(left, field)])
    others = store.insert([a_job() for _ in range(3)])
    claims = claim(store) + claim(store, owner="boot/2") + claim(store, owner="boot/3")
    assert set(others) <= {claimed.job.id for claimed in claims}
    for claimed in claims:
        status = S.TO_BE_SUBMITTED if isinstance(claimed.job, Job) else S.ERROR
        fields = {"execution": {"system": "here", "lane": "here", "why": ["x" * 500]}}
        assert apply(store, claimed.job, status, by=str(claimed.job.lease.owner), fields=fields)
    assert store.count().get("to be submitted", 0) >= 3
    assert sum(store.count().values()) == 4
    assert not {"to be built", "building"} & store.count().keys()


@pytest.mark.parametrize("field", ["inputs", "note"])
def test_a_job_whose_document_became_full_still_ends_as_it_did(roomy_store: JobStore, field: str) -> None:
    store = roomy_store
    (job_id,) = store.insert([almost_full(3000, field)])
    assert apply(store, claim_job(store), S.TO_BE_SUBMITTED, fields={"execution": {"system": "here", "lane": "here"}})
    assert apply(store, claim_job(store, SUBMIT), S.RUNNING, fields={"execution.job_no": "7"})
    results = [{"path": "x" * 1000, "size": 1} for _ in range(1000)]
    assert apply(store, store.on_system("here")[0], S.FINISHED, fields={"exit": {"code": 0}, "results": results})
    found = document(store, job_id)
    assert (found["status"], found["exit"]["code"]) == ("finished", 0)
    assert found["results"] == results or found["results_cut"]


def test_unknown_fields_of_the_app_are_kept_as_they_are(store: JobStore) -> None:
    (job_id,) = store.insert([a_job(mine={"a": [1, {"b": None}]}, other="x")])
    assert apply(store, claim_job(store), S.TO_BE_SUBMITTED, fields={"dir": "/d", "priority": 3})
    found = document(store, job_id)
    assert (found["mine"], found["other"], found["priority"]) == ({"a": [1, {"b": None}]}, "x", 3)


# --- asking


@NOT_ON_MONGOMOCK
def test_an_id_is_found_by_an_unambiguous_beginning(store: JobStore) -> None:
    one = ObjectId("65f000000000000000000001")
    store.insert([a_job(_id=job_id) for job_id in ("alpha-1", "alpha-2", "alpha-22", "beta", one, 17)])
    assert store.resolve("b") == "beta"
    assert store.resolve("alpha-2") == "alpha-2"
    assert store.resolve("65f") == one
    assert store.resolve("1") == 17
    with pytest.raises(NoSuchJob, match="alpha-1, alpha-2"):
        store.resolve("alpha")
    for text in ("gamma", "65f1", "%", "al%"):
        with pytest.raises(NoSuchJob, match="no job"):
            store.resolve(text)


@NOT_ON_MONGOMOCK
@pytest.mark.parametrize(
    ("text", "meant"),
    [("129", 1290), ("13", 13), ("12", 12), ("-4", -4711), ("0", 0.5), ("2.2", 2.25), ("9223", 2**63 - 1), ("77", 77.5)],
)
def test_a_number_is_found_by_its_beginning(store: JobStore, text: str, meant: float) -> None:
    store.insert([a_job(_id=each) for each in (12, 1290, 13, 130, -4711, -3, 0.5, 2.25, 2**63 - 1, 77.5, 78, 8.0)])
    assert store.resolve(text) == meant
    for other in ("14", "-47115", "00", "2.251", "-0", "92234"):
        with pytest.raises(NoSuchJob, match="no job"):
            store.resolve(other)
    with pytest.raises(NoSuchJob, match="could be any of"):
        store.resolve("1")


def test_documents_are_found_by_what_is_given_the_newest_first(store: JobStore) -> None:
    store.insert(
        [a_job(name="1", owner="ann", project="p", tags=["x", "y"]), a_job(name="2", owner="bob", tags=["y"]), a_job(name="3")]
    )
    done = ended(store, name="4", owner="ann")

    def names(limit: int = 0, **selection: Any) -> list[str]:
        return [found["name"] for found in store.find(Filter(**selection), limit)]

    assert sorted(names()) == ["1", "2", "3", "4"]
    assert len(names(limit=2)) == 2
    assert sorted(names(owner="ann")) == ["1", "4"]
    assert names(owner="default") == ["3"]
    assert names(tag="x") == ["1"]
    assert names(project="p") == ["1"]
    assert names(system="here") == ["4"]
    assert names(statuses=[S.FINISHED, S.KILLED], owner="ann") == ["4"]
    assert names(since=later(60)) == []
    assert sorted(names(since=later(-60))) == ["1", "2", "3", "4"]
    assert next(store.find(Filter(tag="x")))["tags"] == ["x", "y"]
    assert job(store, done.id).status is S.FINISHED


def test_the_newest_come_first_whether_they_were_taken_up_or_not(store: JobStore) -> None:
    for year in (2021, 2023, 2022):
        made = ObjectId.from_datetime(datetime(year, 1, 1, tzinfo=UTC))
        store.insert(
            [
                {
                    **a_job(_id=made, name=str(year)),
                    **({} if not is_sqlite(store) else {"times": {"created": made.generation_time}}),
                }
            ]
        )
    claim(store, limit=1)
    assert [found["name"] for found in store.find(Filter())] == ["2023", "2022", "2021"]
    assert [found["name"] for found in store.find(Filter(), 1)] == ["2023"]
    assert [found["name"] for found in store.find(Filter(since=datetime(2022, 1, 1, tzinfo=UTC)))] == ["2023", "2022"]


def test_documents_are_found_with_the_fields_that_are_wanted(store: JobStore) -> None:
    store.insert([a_job(name="draft", inputs={"a": "x"}, note={"deep": [1, None]})])
    done = ended(store, name="done", owner="ann", inputs={"a": "x"})
    fields = ("name", "owner", "note", "execution.system", "times", "times.created", "nothing", "exit.code")
    newest, oldest = store.find(Filter(), fields=fields)
    assert newest["_id"] == done.id
    assert (newest["name"], newest["owner"], newest["execution"]) == ("done", "ann", {"system": "here"})
    assert newest["times"]["created"] == done.times.created
    assert oldest["note"] == {"deep": [1, None]}
    assert not {"nothing", "inputs", "command", "history"} & {*newest, *oldest}
    assert [found.get("inputs") for found in store.find(Filter(), fields=["inputs"])] == [{"a": "x"}] * 2


def test_many_documents_are_found_a_few_at_a_time(store: JobStore) -> None:
    store.insert([a_job(_id=number, inputs={"a": "x" * 100_000}) for number in range(1200)])
    tracemalloc.start()
    try:
        number = sum(1 for _ in store.find(Filter()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert number == 1200
    assert peak < 60 << 20
    assert sorted(found["_id"] for found in store.find(Filter(), fields=["name"])) == list(range(1200))


def test_others_write_while_documents_are_looked_through(make_store: MakeStore) -> None:
    store, other = make_store(), make_store()
    store.insert([a_job(_id=number) for number in range(400)])
    looking = store.find(Filter(), fields=["name"])
    seen = [next(looking)["_id"]]
    other.insert([a_job(_id=5000)])
    claim(other, limit=3)
    seen += [found["_id"] for found in looking]
    assert len(seen) == len(set(seen))
    assert set(range(400)) <= set(seen)


def test_jobs_are_counted_by_status(store: JobStore) -> None:
    assert store.count() == {}
    ended(store)
    store.insert([a_job(), a_job(), a_job(status="odd"), {"no": "job"}])
    assert store.count() == {"to be built": 2, "finished": 1, "odd": 1}


def test_jobs_that_have_not_ended_are_counted_by_lane_and_status(store: JobStore) -> None:
    assert store.lanes() == {}
    ended(store)
    submitted(store)
    built(store, lane="elsewhere")
    built(store, lane="elsewhere")
    store.insert([a_job()])
    assert store.lanes() == {"here": {"running": 1}, "elsewhere": {"to be submitted": 2}}


def test_a_document_that_is_not_there_is_none(store: JobStore) -> None:
    assert store.get("nothing") is None
    assert store.statuses(["nothing"]) == {}
    assert store.statuses([]) == {}


def test_a_store_says_what_it_is_and_can_be_booted_and_closed_twice(store: JobStore) -> None:
    assert re.match(r"(SQLite|MongoDB) \d", store.ping())
    store.boot()
    store.close()
    store.close()
    store.boot()
    assert store.count() == {}
