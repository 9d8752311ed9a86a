"""What the MongoDB store says to its server, and what comes between."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.store.mongo import MongoJobStore
from tests.support.jobs import a_job, document


class Received(CommandListener):
    """How many documents a server has sent in first batches."""

    def __init__(self) -> None:
        self.documents = 0

    def started(self, event: CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.documents += len(event.reply.get("cursor", {}).get("firstBatch", ()))

    def failed(self, event: CommandFailedEvent) -> None:
        pass


@pytest.mark.mongodb
def test_to_find_a_job_by_the_beginning_of_its_id_reads_few_others(mongodb_database: Database) -> None:
    received = Received()
    with MongoJobStore(mongodb_database, SystemClock(), partial(MongoClient, event_listeners=[received])) as store:
        store.insert([a_job(_id=number) for number in range(1, 500)])
        received.documents = 0
        assert store.resolve("499") == 499
        assert received.documents < 10


class Answering(Received):
    """An engine that answers each request in the moment in which it is set."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.command_name == "update":
            with MongoClient[dict[str, Any]](self._database.url) as client:
                client[self._database.name]["jobs"].update_many({}, {"$unset": {"request": ""}})


@pytest.mark.mongodb
def test_a_request_that_an_engine_answers_at_once_was_taken_all_the_same(mongodb_database: Database) -> None:
    engine = Answering(mongodb_database)
    with MongoJobStore(mongodb_database, SystemClock(), partial(MongoClient, event_listeners=[engine])) as store:
        ids = store.insert([a_job(), a_job()])
        assert store.request(ids, "kill") == ids
        assert not any("request" in document(store, job_id) for job_id in ids)
