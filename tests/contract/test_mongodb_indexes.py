"""Which index serves each question that is asked of MongoDB again and again, and how much of it is read: by `explain`."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.errors import StoreUnavailable
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change, Filter, JobStore, Query, Work
from execution_engine.store.journal import Entry
from execution_engine.store.mongo import MongoJobStore
from tests.support.databases import GivenServer, MongoServer
from tests.support.jobs import BUILDING, NOTIFICATION, REQUEST, SUBMIT, a_job, later, now

pytestmark = pytest.mark.mongodb
S = Status

ENDED, WAITING, OF_ANOTHER_LANE = 3000, 40, 300
READ = 1000
"""Keys that a question may read: all that waits here, and far below what has ended."""

BY_DUE, BY_LANE = "status_1_due_at_1_priority_-1__id_1", "status_1_execution.lane_1_due_at_1_priority_-1_times.created_1"
BY_REQUEST, BY_OWNER, BY_AGE, BY_ID = "request_1", "lease.owner_1", "times.created_-1__id_-1", "_id_"
OF_EVENTS, OF_EVENTS_BY_JOB = "at_-1__id_-1", "jobs_1_at_-1__id_-1"


class Asked(CommandListener):
    """The questions that were put to a server."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command
        if event.command_name == "update":
            self.commands += [_as_find(command["update"], update["q"]) for update in command["updates"]]
        elif event.command_name == "delete":
            self.commands += [_as_find(command["delete"], delete["q"]) for delete in command["deletes"]]
        elif event.command_name in ("find", "aggregate"):
            wanted = {"find", "filter", "sort", "limit", "projection", "skip", "hint", "aggregate", "pipeline", "cursor"}
            self.commands.append({key: value for key, value in command.items() if key in wanted})

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def _as_find(collection: str, selection: Any) -> dict[str, Any]:
    return {"find": collection, "filter": selection}


@pytest.fixture(scope="module")
def asked() -> Asked:
    return Asked()


@pytest.fixture(scope="module")
def database(mongodb_server: MongoServer | GivenServer) -> Iterator[Database]:
    database = Database(url=mongodb_server.url, name=f"execd_test_{uuid.uuid4().hex[:12]}")
    yield database
    with MongoClient[dict[str, Any]](database.url) as client:
        client.drop_database(database.name)


@pytest.fixture(scope="module")
def store(database: Database, asked: Asked) -> Iterator[JobStore]:
    """Thousands of jobs that have ended, hundreds of another lane, some in each state on the way."""
    with MongoJobStore(database, SystemClock(), partial(MongoClient, event_listeners=[asked])) as store:
        store.boot(create=True)
        store.insert([_ended(number) for number in range(ENDED)])
        for status, due_at in ((S.TO_BE_BUILT, None), (S.BUILDING, later()), (S.SUBMITTING, later()), (S.SUBMITTING, later(-1))):
            store.insert([_job(status, "here", due_at=due_at) for _ in range(WAITING)])
        for lane, count in (("here", WAITING), ("there", OF_ANOTHER_LANE)):
            for status in (S.TO_BE_SUBMITTED, S.RUNNING, S.PENDING):
                store.insert([_job(status, lane) for _ in range(count)])
        store.insert([_job(S.RUNNING, "here", request="kill"), _job(S.FINISHED, "here", due_at=later(-5))])
        store.journal.append(
            [
                Entry(now() - timedelta(seconds=number), "a", "e", (str(number % 100),), {}, f"e{number}")
                for number in range(ENDED)
            ]
        )
        yield store


def _job(status: Status, lane: str, due_at: Any = None, **fields: Any) -> dict[str, Any]:
    held = {"owner": "b/1", "until": due_at} if due_at and due_at > now() else {"owner": None, "until": None}
    execution = {"lane": lane, "system": lane, "name": "x", "job_no": None}
    placed = {} if status in (S.TO_BE_BUILT, S.BUILDING) else {"execution": execution}
    times = {"created": now()}
    lease = {**held, "token": 1, "crashes": 0, "crash": ""}
    return a_job(status=str(status), due_at=due_at, lease=lease, times=times, schema=1, history=[], **placed, **fields)


def _ended(number: int) -> dict[str, Any]:
    document = _job(S.FINISHED if number % 2 else S.ERROR, "here")
    if number in (7, 8):
        document |= {"owner": "owner 7", "project": "project 7", "tags": ["a", "tag 7"]}
        document["execution"]["system"] = "system 7"
    return document


Ask = Callable[[JobStore], Any]


def a_claim(query: Query) -> Ask:
    return lambda store: store.claim(query, "b/explained", 20, now(), later())


def a_change(store: JobStore) -> None:
    held = store.claim(Query(Work.SUBMIT, "there"), "b/changed", 5, now(), later())
    store.apply([Change(claimed.job, S.RUNNING) for claimed in held], "b/changed", now())


QUESTIONS: dict[str, tuple[Ask, set[str]]] = {
    "what is due": (
        lambda store: store.due([BUILDING, SUBMIT, REQUEST, NOTIFICATION, Query(Work.REQUEST, "here")], now()),
        {BY_DUE, BY_LANE, BY_REQUEST},
    ),
    "what is due when nothing is": (
        lambda store: store.due([Query(Work.SUBMIT, "nowhere"), Query(Work.REQUEST, "nowhere")], now()),
        {BY_DUE, BY_LANE, BY_REQUEST},
    ),
    "a claim for building": (a_claim(BUILDING), {BY_DUE, BY_ID}),
    "a claim for submission": (a_claim(SUBMIT), {BY_LANE, BY_OWNER, BY_ID}),
    "a claim of a request": (a_claim(Query(Work.REQUEST, "here")), {BY_REQUEST, BY_ID}),
    "a claim of a request of an ended job": (a_claim(REQUEST), {BY_REQUEST, BY_ID}),
    "a claim for notification": (a_claim(NOTIFICATION), {BY_DUE, BY_ID}),
    "changes": (a_change, {BY_LANE, BY_OWNER, BY_ID}),
    "the renewal of leases": (lambda store: store.renew("b/1", later(90)), {BY_OWNER}),
    "the release of an actor's jobs": (lambda store: store.release("b/9", now()), {BY_OWNER}),
    "the release of an engine's jobs": (lambda store: store.release("c/*", now()), {BY_OWNER}),
    "the jobs of a system": (lambda store: store.on_system("here"), {BY_LANE}),
    "the jobs of a system, in brief": (lambda store: store.followed("here"), {BY_LANE}),
    "the room on a system": (lambda store: store.taken_cores("here", now()), {BY_LANE}),
    "the newest jobs": (lambda store: list(store.find(Filter(), 5)), {BY_AGE}),
    **{
        f"the jobs of one {name}": (
            lambda store, name=name: list(store.find(Filter(**{name: f"{name} 7"}), 5)),
            {f"{field}_1__id_-1" if field == "tags" else f"{field}_1_times.created_-1__id_-1", BY_AGE},
        )
        for name, field in (("owner", "owner"), ("project", "project"), ("tag", "tags"), ("system", "execution.system"))
    },
    "the latest events": (lambda store: store.journal.select(limit=5), {OF_EVENTS}),
    "the events of a job": (lambda store: store.journal.select(job="7", limit=5), {OF_EVENTS_BY_JOB}),
    "the expiry of events": (lambda store: store.journal.expire(now() - timedelta(seconds=ENDED - 5), 9), {OF_EVENTS, BY_ID}),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_frequent_question_is_served_by_the_index_that_is_meant_for_it(
    store: JobStore, database: Database, asked: Asked, question: str
) -> None:
    ask, meant = QUESTIONS[question]
    asked.commands.clear()
    ask(store)
    commands = list(asked.commands)
    assert commands
    with MongoClient[dict[str, Any]](database.url) as client:
        for command in commands:
            explained = client[database.name].command("explain", command, verbosity="executionStats")
            used, read = _indexes(explained), _read(explained)
            assert "COLLSCAN" not in _stages(explained), command
            assert used <= meant, command
            assert max(read) <= READ, (command, read)


def _walk(value: Any) -> Iterator[Mapping[str, Any]]:
    """All documents in the answer, but for the plans that were not taken."""
    if isinstance(value, Mapping):
        yield value
        for key, each in value.items():
            if key not in ("rejectedPlans", "allPlansExecution", "command"):
                yield from _walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from _walk(each)


def _indexes(explained: Mapping[str, Any]) -> set[str]:
    names = {each["indexName"] for each in _walk(explained) if "indexName" in each}
    return names | ({BY_ID} if "IDHACK" in _stages(explained) else set())


def _stages(explained: Mapping[str, Any]) -> set[str]:
    return {each["stage"] for each in _walk(explained) if "stage" in each}


def _read(explained: Mapping[str, Any]) -> tuple[int, int]:
    """Keys and documents that were looked at."""
    stats = [each for each in _walk(explained) if "totalKeysExamined" in each]
    return max(each["totalKeysExamined"] for each in stats), max(each["totalDocsExamined"] for each in stats)


def test_an_index_may_take_longer_to_make_than_the_deadline_of_an_operation(
    mongodb_server: MongoServer | GivenServer, mongodb_database: Database
) -> None:
    quick = mongodb_database.model_copy(update={"timeout": 0.5})
    with MongoJobStore(quick, SystemClock()) as store, MongoClient[dict[str, Any]](quick.url) as client:
        store.insert([a_job()])
        client.admin.command("configureFailPoint", "hangAfterStartingIndexBuild", mode="alwaysOn")
        goes_on = threading.Timer(
            1.5, client.admin.command, ["configureFailPoint", "hangAfterStartingIndexBuild"], {"mode": "off"}
        )
        goes_on.start()
        try:
            store.boot(create=True)
        finally:
            goes_on.join()
        assert store.inspection.wrong_indexes() == []


def test_an_index_that_is_gone_is_an_outage_with_advice(mongodb_database: Database) -> None:
    with MongoJobStore(mongodb_database, SystemClock()) as store:
        store.boot(create=True)
        store.insert([a_job()])
        with MongoClient[dict[str, Any]](mongodb_database.url) as client:
            client[mongodb_database.name]["jobs"].drop_index(BY_DUE)
        with pytest.raises(StoreUnavailable, match="execd doctor --repair"):
            store.claim(BUILDING, "b/1", 9, now(), later())
        store.inspection.make_indexes()
        assert len(store.claim(BUILDING, "b/1", 9, now(), later())) == 1


def test_jobs_are_counted_by_the_index_alone(store: JobStore, database: Database, asked: Asked) -> None:
    asked.commands.clear()
    assert sum(store.count().values()) >= ENDED
    (command,) = asked.commands
    with MongoClient[dict[str, Any]](database.url) as client:
        explained = client[database.name].command("explain", command, verbosity="executionStats")
    assert max(each["totalDocsExamined"] for each in _walk(explained) if "totalDocsExamined" in each) == 0
