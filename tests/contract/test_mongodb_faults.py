"""A genuine MongoDB that refuses, stands still or loses its majority: nothing of it is laid at a job's door, nothing is believed
that could be taken back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import StoreUnavailable
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store import open_store
from execution_engine.store.job_store import Change, JobStore
from tests.support.databases import GivenServer, MongoServer, wait_until
from tests.support.jobs import BUILDING, CLOCK, SUBMIT, a_job, apply, claim, claim_job, document, job, later, now
from tests.support.replica_set import ReplicaSet, role_of
from tests.support.stepping_down import SteppingDownProxy

pytestmark = pytest.mark.mongodb
S = Status
TIMEOUT = 2.0
PASSING = {
    14031: "OutOfDiskSpace",
    133: "FailedToSatisfyReadPreference",
    6: "HostUnreachable",
    16500: "throttled",
    13: "Unauthorized",
}


@contextmanager
def opened(database: Database, **changed: Any) -> Iterator[JobStore]:
    with open_store(database.model_copy(update=changed), SystemClock()) as store:
        store.boot(create=True)
        yield store


@contextmanager
def failing(server: MongoServer | GivenServer, point: str, mode: Any, **data: Any) -> Iterator[None]:
    """The server has this failpoint meanwhile."""
    with MongoClient[dict[str, Any]](server.url) as client:
        client.admin.command("configureFailPoint", point, mode=mode, data=data)
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", point, mode="off")


def persistently(store: JobStore, work: Any, patience: float = 30.0) -> Any:
    """What an operation returns in the end, repeated as long as the database is out of reach."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return work(store)
        except StoreUnavailable:
            assert time.monotonic() < deadline


# --- errors that say nothing about a document


def test_updates_that_fail_now_and_then_condemn_no_job(mongodb_server: MongoServer, mongodb_database: Database) -> None:
    with opened(mongodb_database) as store:
        ids = store.insert([a_job() for _ in range(30)])
        with failing(mongodb_server, "failAllUpdates", {"activationProbability": 0.1}):
            for number in range(1000):
                persistently(store, lambda store, by=f"boot/{number}": work_through(store, by))
                if store.count() == {"finished": 30}:
                    break
        assert store.count() == {"finished": 30}
        for job_id in ids:
            found = job(store, job_id)
            assert (found.error, found.exit.code if found.exit else None) == (None, 0)
            assert [entry.status for entry in found.history] == [
                "building",
                "to be submitted",
                "submitting",
                "running",
                "finished",
            ]


def work_through(store: JobStore, by: str) -> None:
    """A step with each job that is there; what an outage leaves half done is freed first, as the engine does."""
    store.release("boot/*", now())
    for claimed in claim(store, owner=by):
        assert isinstance(claimed.job, Job)
        apply(store, claimed.job, S.TO_BE_SUBMITTED, by, fields={"execution": {"system": "here", "lane": "here"}})
    for claimed in claim(store, SUBMIT, owner=by):
        apply(store, claimed.job, S.RUNNING, by, fields={"execution.job_no": "7"})
    for found in store.on_system("here"):
        apply(store, found, S.FINISHED, by, fields={"exit": {"code": 0, "signal": None, "reason": None}})


@pytest.mark.parametrize("code", PASSING)
def test_an_error_for_each_document_that_speaks_of_the_database_is_an_outage(
    mongodb_server: MongoServer, mongodb_database: Database, code: int
) -> None:
    proxy = SteppingDownProxy(mongodb_server.port)
    through = mongodb_database.model_copy(update={"url": f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"})
    try:
        with opened(through) as store:
            store.insert([a_job(), a_job()])
            held = [claimed.job for claimed in claim(store)]
            store.insert([a_job(), a_job()])
            proxy.stepped_down = {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": errors(code, 2)}
            with pytest.raises(StoreUnavailable):
                store.apply([Change(each, S.TO_BE_SUBMITTED) for each in held], "boot/1", now())
            with pytest.raises(StoreUnavailable):
                claim(store, owner="boot/2")
            proxy.stepped_down = None
            assert store.apply([Change(each, S.TO_BE_SUBMITTED) for each in held], "boot/1", now()) == set()
            assert len(claim(store, owner="boot/2")) == 2
            assert store.count() == {"to be submitted": 2, "building": 2}
    finally:
        proxy.close()


def errors(code: int, count: int) -> list[dict[str, Any]]:
    return [{"index": index, "code": code, "errmsg": PASSING[code]} for index in range(count)]


@pytest.mark.parametrize("code", [133, 13, 18, 365, 50])
def test_a_command_that_a_server_cannot_carry_out_now_is_an_outage(
    mongodb_server: MongoServer, mongodb_database: Database, code: int
) -> None:
    with opened(mongodb_database, timeout=TIMEOUT) as store:
        store.insert([a_job()])
        with failing(mongodb_server, "failCommand", "alwaysOn", failCommands=["find", "update"], errorCode=code):
            for operation in (lambda: store.due([BUILDING], now()), lambda: store.renew("boot/1", later())):
                with pytest.raises(StoreUnavailable):
                    operation()
        assert claim_job(store).status is S.BUILDING


# --- a majority that is missing


def test_a_claim_that_no_majority_has_is_not_believed_until_one_has(
    replica_set: ReplicaSet, replica_set_database: Database
) -> None:
    with opened(replica_set_database, timeout=TIMEOUT) as store:
        (job_id,) = store.insert([a_job()])
        with cut_off(replica_set):
            with unconfirmed():
                claim(store, owner="boot/1")
            with unconfirmed():  # and the read-back of the next try does not take it for done either
                assert not claim(store, owner="boot/1")
        assert persistently(store, lambda store: claim(store, owner="boot/1") or store.renew("boot/1", later()))
        assert job(store, job_id).lease.owner == "boot/1"


def test_an_insert_that_no_majority_has_is_not_believed_until_one_has(
    replica_set: ReplicaSet, replica_set_database: Database
) -> None:
    documents = [a_job(), a_job(_id="mine")]
    with opened(replica_set_database, timeout=TIMEOUT) as store:
        with cut_off(replica_set):
            for _ in range(2):
                with unconfirmed():
                    store.insert(documents)
        assert persistently(store, lambda store: store.insert(documents)) == [each["_id"] for each in documents]
        assert store.count() == {"to be built": 2}


def test_an_operation_without_a_majority_ends_in_time_and_says_what_is_missing(
    replica_set: ReplicaSet, replica_set_database: Database
) -> None:
    quick = 1.0  # the primary gives up after 1.5 s without the others
    with opened(replica_set_database, timeout=quick) as store:
        store.insert([a_job() for _ in range(4)])
        for word in ("did not confirm a write in time", "primary"):
            with cut_off(replica_set) if word != "primary" else without_a_primary(replica_set):
                began = time.monotonic()
                with unconfirmed() as raised:
                    store.insert([a_job()])
                assert time.monotonic() - began < quick * 1.25
                assert word in str(raised.value)


@contextmanager
def cut_off(replica_set: ReplicaSet) -> Iterator[None]:
    """Neither of the others hears the primary, which notices after its election time-out."""
    others = replica_set.secondaries()
    for node in others:
        node.pause()
    try:
        yield
    finally:
        for node in others:
            node.resume()


@contextmanager
def without_a_primary(replica_set: ReplicaSet) -> Iterator[None]:
    """The primary has given up, and there is no other."""
    with cut_off(replica_set):
        wait_until(lambda: all(role_of(node) != "primary" for node in replica_set.nodes), "no primary")
        yield


@contextmanager
def unconfirmed() -> Iterator[pytest.ExceptionInfo[StoreUnavailable]]:
    with pytest.raises(StoreUnavailable, match="a majority of its servers") as raised:
        yield raised


def test_an_operation_on_a_server_that_stands_still_ends_in_time(
    own_mongodb_server: MongoServer, mongodb_database: Database
) -> None:
    with opened(mongodb_database, timeout=TIMEOUT) as store:
        own_mongodb_server.pause()
        try:
            for operation in (lambda: store.insert([a_job()]), lambda: claim(store), lambda: store.renew("boot/1", later())):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable, match="does not answer"):
                    operation()
                assert time.monotonic() - began < TIMEOUT * 1.25
        finally:
            own_mongodb_server.resume()


# --- servers before 6.0


def test_large_jobs_whose_actor_died_are_claimed_again_by_a_server_that_sorts_in_memory(mongodb_database: Database) -> None:
    with opened(mongodb_database, timeout=30.0) as store, MongoClient[dict[str, Any]](mongodb_database.url) as client:
        before = client.admin.command("setParameter", 1, allowDiskUseByDefault=False)["was"]
        try:
            ids = [store.insert([a_job(inputs={"data": "x" * (14 << 20)})])[0] for _ in range(9)]
            assert len(claim(store, until=later(-1))) == len(ids)
            assert {claimed.job.id for claimed in claim(store, owner="boot/2")} == set(ids)
        finally:
            client.admin.command("setParameter", 1, allowDiskUseByDefault=before)


# --- clocks


class Shifted(SystemClock):
    """A machine whose clock is so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        self.ahead = timedelta(seconds=ahead)

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.mark.parametrize("ahead", [90.0, -90.0])
def test_a_machine_whose_clock_is_wrong_takes_no_lease_that_holds_and_gives_none_that_has_ended(
    mongodb_database: Database, ahead: float
) -> None:
    wrong = Shifted(ahead)
    with opened(mongodb_database) as right_store, open_store(mongodb_database, wrong) as wrong_store:
        (job_id,) = right_store.insert([a_job()])
        held = claim_job(right_store, owner="right/1")
        assert wrong_store.due([BUILDING], wrong.now()) == set()
        assert not wrong_store.claim(BUILDING, "wrong/1", 9, wrong.now(), wrong.now() + timedelta(seconds=60))
        assert wrong_store.claim_one(job_id, "wrong/1", wrong.now(), wrong.now() + timedelta(seconds=60)) is None
        assert apply(right_store, held, S.TO_BE_BUILT, "right/1")
        (claimed,) = wrong_store.claim(BUILDING, "wrong/1", 9, wrong.now(), wrong.now() + timedelta(seconds=60))
        assert not claim(right_store, owner="right/2")
        until = document(right_store, job_id)["lease"]["until"]
        assert abs(until - later(60)) < timedelta(seconds=10)
        since = wrong.now() - timedelta(seconds=5)
        assert not wrong_store.apply([Change(claimed.job, S.TO_BE_BUILT, due_at=since)], "wrong/1", wrong.now())
        assert claim_job(right_store, owner="right/2").id == job_id


@pytest.mark.parametrize("ahead", [90.0, -90.0])
def test_a_machine_whose_clock_is_wrong_sees_its_leases_end_by_its_own_clock(mongodb_database: Database, ahead: float) -> None:
    wrong = Shifted(ahead)
    with opened(mongodb_database) as right_store, open_store(mongodb_database, wrong) as store:
        (job_id,) = right_store.insert([a_job()])
        until = wrong.now() + timedelta(seconds=60)
        (claimed,) = store.claim(BUILDING, "wrong/1", 9, wrong.now(), until)
        assert isinstance(claimed.job, Job)
        again = store.whole(claimed.job)
        fields = {"execution": {"lane": "here", "job_no": "7", "name": "execd-7"}}
        assert not store.apply([Change(claimed.job, S.TO_BE_SUBMITTED, fields=fields)], "wrong/1", wrong.now())
        (submitting,) = store.claim(SUBMIT, "wrong/1", 9, wrong.now(), until)
        change = Change(submitting.job, S.RUNNING, keep_lease=True)
        assert not store.apply([change], "wrong/1", wrong.now())
        (brief,) = store.followed("here")
        (whole,) = store.on_system("here")
        one = store.claim_one(job_id, "wrong/1", wrong.now(), until)
        ends = [claimed.job.lease.until, again and again.lease.until, submitting.job.lease.until]
        ends += [brief.lease_until, whole.lease.until, one and one.lease.until]
        assert all(end is not None and abs(end - until) < timedelta(seconds=10) for end in ends), ends


def test_a_clock_that_is_set_while_a_store_is_open_moves_no_lease(mongodb_database: Database) -> None:
    moving = Shifted(0)
    with opened(mongodb_database) as other, open_store(mongodb_database, moving) as store:
        other.insert([a_job()])
        claim_job(other, owner="other/1")
        moving.ahead = timedelta(hours=1)
        assert not store.claim(BUILDING, "mine/1", 9, moving.now(), moving.now() + timedelta(seconds=60))
        assert CLOCK.now() < moving.now()
