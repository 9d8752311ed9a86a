"""Job stores under any sequence of claims, expiries, crashes, late writers, requests and retries, compared with a model.

Every rule is something that an app or one of the engine's processes does; after each one the whole database is what the model
says, and no job is lost: whoever has to move it on can find it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymongo
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.jobs.attempts import next_attempt
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, REQUESTS, RETRIES, RETRY, TRANSITIONS, Status, may_follow
from execution_engine.store import open_store
from execution_engine.store.job_store import Change, Filter, JobStore, Query, Work
from tests.support.databases import GivenServer, MongoServer
from tests.support.jobs import BUILDING, NOTIFICATION, REQUEST, a_job
from tests.support.store_model import BEGUN, Model, ModelJob

OWNERS = ("a/1", "a/2", "b/1")
LANES = ("x", "y")
QUERIES = (
    *(BUILDING, NOTIFICATION, REQUEST),
    *(Query(work, lane) for work in (Work.SUBMIT, Work.REQUEST) for lane in LANES),
)
START = datetime(2026, 11, 20, 16, 4, 5, tzinfo=UTC)
HELD_BACK = frozenset({Status.INIT, Status.HOLD})
LATER = (Status.FINISHED, Status.KILLED, Status.ERROR, Status.RUNNING, Status.TO_BE_SUBMITTED)
WAITING = frozenset({Status.TO_BE_BUILT, Status.TO_BE_SUBMITTED})

seconds = st.integers(1, 30)
perhaps_soon = st.none() | seconds
any_of = st.integers(0, 1 << 16)
how_late = st.sampled_from((0, 0, 0, 1, 2, 5, 11))
"""What an actor knows may be what was seen last of any job, or long past."""


@dataclass(frozen=True)
class Claim:
    """Who claims how much for how long; `pick`: what, of all that is due."""

    store: int = 0
    pick: int = 0
    owner: str = "a/1"
    limit: int = 1
    lease: int = 1


claims = st.builds(
    Claim,
    store=st.sampled_from((0, 1)),
    pick=any_of,
    owner=st.sampled_from(OWNERS),
    limit=st.integers(1, 3),
    lease=seconds,
)


class Jobs(RuleBasedStateMachine):
    """Two stores on one database; time is an argument, so it passes only here."""

    def __init__(self, make_store: Callable[[], JobStore]) -> None:
        super().__init__()
        self.stores = [make_store(), make_store()]
        self.model = Model()
        self.now = START
        self.seen: list[Job] = []
        """what actors know of jobs, however late it is by now"""
        self.whys = (f"change {number}" for number in count())

    def teardown(self) -> None:
        for store in self.stores:
            store.close()

    def in_time(self, after: int | None) -> datetime | None:
        return None if after is None else self.now + timedelta(seconds=after)

    def known(self, late: int) -> Job:
        """A job as it was seen: last, or so many looks ago."""
        return self.seen[-1 - late % len(self.seen)]

    @initialize(goals=st.lists(st.sampled_from(LATER), min_size=2, max_size=5))
    def some_jobs_are_on_their_way(self, goals: list[Status]) -> None:
        """Brought there by the same rules; the furthest first, so that each claim has one job to take."""
        for goal in sorted(goals, key=LATER.index):
            self.an_app_inserts(0, Status.TO_BE_BUILT, 0, None, None)
            self.brought(BUILDING, Status.TO_BE_SUBMITTED, execution={"system": "x", "lane": "x"})
            if goal is not Status.TO_BE_SUBMITTED:
                self.brought(Query(Work.SUBMIT, "x"), Status.RUNNING, **{"execution.job_no": "7"})
            if goal in FINAL:
                (job,) = (job for job in self.stores[0].on_system("x") if job.id == self.seen[-1].id)
                self.apply(0, Change(job, goal, next(self.whys), due_at=self.now))

    def brought(self, query: Query, status: Status, **fields: Any) -> None:
        (job,) = self.claimed(Claim(), query)
        self.apply(0, Change(job, status, next(self.whys), fields))

    # --- time and apps

    @rule(by=seconds)
    def time_passes(self, by: int) -> None:
        self.now += timedelta(seconds=by)

    @rule(
        store=st.sampled_from((0, 1)),
        status=st.sampled_from((*[Status.TO_BE_BUILT] * 5, Status.INIT)),
        priority=st.integers(-1, 1),
        after=st.sampled_from((None, None, None, 3, 20)),
        request=st.sampled_from((None, None, None, "hold")),
    )
    def an_app_inserts(self, store: int, status: Status, priority: int, after: int | None, request: str | None) -> None:
        not_before = self.in_time(after)
        fields = {"status": str(status), "priority": priority, "not_before": not_before, "request": request}
        (job_id,) = self.stores[store].insert([a_job(**{name: value for name, value in fields.items() if value is not None})])
        self.model.jobs[job_id] = ModelJob(status, priority, not_before, request=request, history=[str(status)])

    @precondition(lambda self: self.model.jobs)
    @rule(store=st.sampled_from((0, 1)), pick=any_of, what=st.sampled_from(tuple(REQUESTS)))
    def an_app_asks(self, store: int, pick: int, what: str) -> None:
        job_id = list(self.model.jobs)[pick % len(self.model.jobs)]
        self.asks(store, job_id, what)

    @precondition(lambda self: any(job.status in RETRIES for job in self.model.jobs.values()))
    @rule(store=st.sampled_from((0, 1)), pick=any_of)
    def an_owner_wants_a_retry(self, store: int, pick: int) -> None:
        failed = [job_id for job_id, job in self.model.jobs.items() if job.status in RETRIES]
        self.asks(store, failed[pick % len(failed)], RETRY)

    def asks(self, store: int, job_id: Any, what: str) -> None:
        asked = self.stores[store].request([job_id, "no such job"], what)
        assert asked == [job_id] * self.model.jobs[job_id].ask(what)

    # --- actors

    @rule(claim=claims, goal=any_of, after=perhaps_soon)
    def an_actor_works(self, claim: Claim, goal: int, after: int | None) -> None:
        """Claims what is due, and takes each job a step on."""
        for job in self.claimed(claim, self.query(claim)):
            if job.request and job.status not in BEGUN:
                self.answer(claim.store, job)
            else:
                self.change(claim.store, job, goal, after)

    @rule(claim=claims)
    def an_actor_claims_and_stands_still(self, claim: Claim) -> None:
        self.claimed(claim, self.query(claim))

    def query(self, claim: Claim) -> Query:
        """One for work that is due, as the monitor would send an actor for, if there is any."""
        due = [query for query in QUERIES if self.model.due(query, self.now)] or QUERIES
        return due[claim.pick % len(due)]

    def claimed(self, claim: Claim, query: Query) -> list[Job]:
        until = self.now + timedelta(seconds=claim.lease)
        claimed = self.stores[claim.store].claim(query, claim.owner, claim.limit, self.now, until)
        self.model.check_claim(query, [one.job.id for one in claimed], claim.limit, self.now)
        jobs = [one.job for one in claimed if isinstance(one.job, Job)]
        assert [one.was for one in claimed] == [self.model.jobs[job.id].status for job in jobs]
        for job in jobs:
            self.model.jobs[job.id].take(query, claim.owner, until)
        self.seen += jobs
        return jobs

    @precondition(lambda self: any(job.status in ON_SYSTEM for job in self.model.jobs.values()))
    @rule(store=st.sampled_from((0, 1)), pick=any_of, owner=st.sampled_from(OWNERS), lease=seconds)
    def a_careful_status_actor_claims_one(self, store: int, pick: int, owner: str, lease: int) -> None:
        here = [job_id for job_id, job in self.model.jobs.items() if job.status in ON_SYSTEM]
        job_id, until = here[pick % len(here)], self.now + timedelta(seconds=lease)
        known = self.model.jobs[job_id]
        job = self.stores[store].claim_one(job_id, owner, self.now, until)
        assert (job is not None) == (known.until is None or known.until <= self.now or known.owner == owner)
        if job is not None:
            known.take(None, owner, until)
            self.seen.append(job)

    @rule(store=st.sampled_from((0, 1)), lane=st.sampled_from(LANES))
    def a_status_actor_looks(self, store: int, lane: str) -> None:
        jobs = self.stores[store].on_system(lane)
        assert {job.id for job in jobs} == {
            job_id for job_id, job in self.model.jobs.items() if job.lane == lane and job.status in ON_SYSTEM
        }
        self.seen += jobs

    @precondition(lambda self: self.seen)
    @rule(store=st.sampled_from((0, 1)), late=how_late, goal=any_of, after=perhaps_soon)
    def an_actor_changes(self, store: int, late: int, goal: int, after: int | None) -> None:
        self.change(store, self.known(late), goal, after)

    @precondition(lambda self: any(job.request and job.status not in BEGUN for job in self.seen))
    @rule(store=st.sampled_from((0, 1)), late=how_late)
    def a_request_actor_answers(self, store: int, late: int) -> None:
        asked = [job for job in self.seen if job.request and job.status not in BEGUN]
        self.answer(store, asked[-1 - late % len(asked)])

    def change(self, store: int, job: Job, goal: int, after: int | None) -> None:
        """One of the transitions that the table allows."""
        goals = [status for status in Status if status in TRANSITIONS[job.status]] or [job.status]
        status = goals[goal % len(goals)]
        lane = LANES[goal % len(LANES)]
        fields: dict[str, Any] = {"execution": {"system": lane, "lane": lane}} if status is Status.TO_BE_SUBMITTED else {}
        if job.status is Status.SUBMITTING and status in ON_SYSTEM and goal % 3:
            fields = {"execution.job_no": "7"}
        change = Change(job, status, next(self.whys), fields, None if status in ON_SYSTEM else self.in_time(after))
        if status in BEGUN and after is None:
            with pytest.raises(ValueError, match="needs a time at which it is due"):
                self.stores[store].apply([change], "test", self.now)
        else:
            self.apply(store, change)

    def answer(self, store: int, job: Job) -> None:
        """Retries a job that has ended, and refuses all else."""
        if job.request == RETRY and job.status in RETRIES:
            change = Change(job, Status.TO_BE_BUILT, next(self.whys), next_attempt(job), answered=RETRY)
        else:
            change = Change(job, job.status, answered=job.request)
        self.apply(store, change)

    @precondition(lambda self: self.seen)
    @rule(store=st.sampled_from((0, 1)), late=how_late, after=seconds)
    def an_actor_is_not_sure(self, store: int, late: int, after: int) -> None:
        job = self.known(late)
        self.apply(
            store, Change(job, job.status, crash="unsure", due_at=None if job.status in ON_SYSTEM else self.in_time(after))
        )

    @precondition(lambda self: any(job.status in FINAL for job in self.seen))
    @rule(store=st.sampled_from((0, 1)), pick=any_of, status=st.sampled_from(Status))
    def nobody_else_leads_out_of_a_final_status(self, store: int, pick: int, status: Status) -> None:
        ended = [job for job in self.seen if job.status in FINAL]
        job = ended[pick % len(ended)]
        if status is not job.status:
            with pytest.raises(ValueError, match="may not follow"):
                self.stores[store].apply([Change(job, status, answered=job.request)], "test", self.now)

    def apply(self, store: int, change: Change) -> None:
        told = str(change.job.id) not in self.stores[store].apply([change], "test", self.now)
        made = self.model.jobs[change.job.id].change(change)
        assert told == made or (told and change.status is change.job.status), "a job that is just so already may count as changed"

    @rule(store=st.sampled_from((0, 1)), owner=st.sampled_from(OWNERS), lease=seconds)
    def an_actor_renews(self, store: int, owner: str, lease: int) -> None:
        until = self.now + timedelta(seconds=lease)
        held = self.model.held_by(owner)
        assert self.stores[store].renew(owner, until) == len(held)
        for job in held:
            job.until = job.due_at = until

    @rule(
        store=st.sampled_from((0, 1)),
        owner=st.sampled_from((*OWNERS, "a/*")),
        crash=st.sampled_from((None, "signal 9")),
        after=st.integers(0, 5),
    )
    def an_actor_or_an_engine_dies(self, store: int, owner: str, crash: str | None, after: int) -> None:
        retry_at = self.now + timedelta(seconds=after)
        held = self.model.held_by(owner)
        assert len(self.stores[store].release(owner, self.now, crash, retry_at)) == len(held)
        for job in held:
            job.released(crash, retry_at)

    # --- what holds at any time

    @invariant()
    def the_database_is_as_the_model_says(self) -> None:
        found = {document["_id"]: document for document in self.stores[0].find(Filter())}
        assert set(found) == set(self.model.jobs)
        for job_id, expected in self.model.jobs.items():
            job = Job.from_document(found[job_id])
            if job.due_at == expected.not_before and expected.status is Status.TO_BE_BUILT:
                expected.due_at = expected.not_before  # a claim that passed it over has noted when to look again
            lease = (job.lease.owner, job.lease.token, job.lease.until, job.lease.crashes)
            assert (job.status, *lease) == (expected.status, expected.owner, expected.token, expected.until, expected.crashes)
            assert (job.due_at, job.request, job.attempt) == (expected.due_at, expected.request, expected.attempt)
            assert [entry.status for entry in job.history] == expected.history[1:]

    @invariant()
    def every_history_is_a_path_through_the_table(self) -> None:
        for job in self.model.jobs.values():
            for old, new in pairwise(map(Status, job.history)):
                assert may_follow(old, new) or may_follow(old, new, new_attempt=True)

    @invariant()
    def what_is_due_is_found_and_nothing_else(self) -> None:
        due = {query for query in QUERIES if self.model.due(query, self.now)}
        found = self.stores[1].due(QUERIES, self.now)
        early = any(job.is_early(self.now) for job in self.model.jobs.values())
        assert due <= found <= due | ({BUILDING} if early else set())

    @invariant()
    def somebody_will_move_every_job_on(self) -> None:
        """Held, on a system, held back on request, or due at some time: then a claim finds it."""
        at_last = self.now + timedelta(days=1)
        for job in self.model.jobs.values():
            assert (job.owner is None) == (job.until is None)
            assert job.owner is None or job.due_at == job.until
            if job.status in WAITING or job.status in BEGUN:
                assert any(job.is_due(query, at_last) for query in QUERIES), job
            else:
                assert job.status in FINAL | HELD_BACK | ON_SYSTEM


@pytest.fixture
def make_sqlite(tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Gives an empty database each time; in memory where there is a directory for that: the disk is not what is tested."""
    memory = Path("/dev/shm")
    numbers = count()
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        yield lambda: Database(url=f"sqlite:///{directory}/{next(numbers)}.db")


@pytest.fixture
def make_mongodb(mongodb_server: MongoServer | GivenServer) -> Iterator[Callable[[], Database]]:
    """As `make_sqlite`, on a MongoDB."""
    with ExitStack() as stack:
        client: pymongo.MongoClient[Any] = stack.enter_context(pymongo.MongoClient(mongodb_server.url))

        def make() -> Database:
            database = Database(url=mongodb_server.url, name=f"execd_model_{uuid.uuid4().hex[:12]}")
            stack.callback(client.drop_database, database.name)
            return database

        yield make


def follow(make_database: Callable[[], Database], examples: int, steps: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Runs the machine on so many empty databases."""

    def machine() -> Jobs:
        database = make_database()

        def make_store() -> JobStore:
            store = open_store(database, SystemClock())
            store.boot(create=True)
            return store

        return Jobs(make_store)

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_sqlite_does_what_the_model_says_whatever_happens(make_sqlite: Callable[[], Database]) -> None:
    follow(make_sqlite, examples=100, steps=50)


@pytest.mark.mongodb
def test_a_mongodb_server_does_what_the_model_says_whatever_happens(make_mongodb: Callable[[], Database]) -> None:
    follow(make_mongodb, examples=5, steps=40, phases=(Phase.generate,))
