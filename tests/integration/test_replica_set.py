"""An engine on a replica set of three genuine servers, whose primary steps down, dies, or is cut off in the midst of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from execution_engine.config import Database
from tests.integration.test_outages import IMPATIENT, SLOTS, in_their_midst, nothing_was_lost, runs, submit_counted
from tests.support.databases import wait_until
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.replica_set import ReplicaSet, role_of

pytestmark = [pytest.mark.mongodb, pytest.mark.timeout(300)]
JOBS = 60


@pytest.fixture
def engine(make_engine: MakeEngine, replica_set_database: Database) -> Engine:
    """A running engine on the set, which it gives three seconds."""
    database = {"url": replica_set_database.url, "name": replica_set_database.name, "timeout": "3s"}
    engine = make_engine(database=database, engine=IMPATIENT, execution_systems=SLOTS)
    engine.start()
    return engine


def steps_down(replica_set: ReplicaSet) -> None:
    replica_set.step_down()


def dies(replica_set: ReplicaSet) -> None:
    primary = replica_set.primary()
    primary.stop()
    replica_set.primary()
    primary.start()


def is_cut_off(replica_set: ReplicaSet) -> None:
    """It stands still with what it was writing, another takes its place, and it comes back."""
    primary = replica_set.primary()
    primary.pause()
    replica_set.primary()
    primary.resume()


def loses_the_others(replica_set: ReplicaSet) -> None:
    """It writes on for a moment, which nobody confirms, and gives up."""
    primary, others = replica_set.primary(), replica_set.secondaries()
    for node in others:
        node.pause()
    wait_until(lambda: role_of(primary) != "primary", "it has noticed")
    for node in others:
        node.resume()
    replica_set.primary()


@pytest.mark.parametrize("happens", [steps_down, dies, is_cut_off, loses_the_others])
def test_whatever_the_primary_does_in_the_midst_of_a_batch_no_job_is_lost_and_none_runs_twice(
    engine: Engine, replica_set: ReplicaSet, happens: Callable[[ReplicaSet], None]
) -> None:
    ids = submit_counted(engine, JOBS, "sleep 0.2")
    in_their_midst(engine, JOBS)
    happens(replica_set)
    nothing_was_lost(engine, ids, timeout=120)


def test_a_batch_is_submitted_through_a_failover_with_each_job_once(engine: Engine, replica_set: ReplicaSet) -> None:
    ids = submit_counted(engine, JOBS)
    for _ in range(3):
        replica_set.step_down(2)
        ids += submit_counted(engine, 10)
    nothing_was_lost(engine, ids, timeout=120)
    assert sum(runs(engine).values()) == len(ids)


def test_a_set_without_a_majority_is_an_outage_that_status_explains(engine: Engine, replica_set: ReplicaSet) -> None:
    (long,) = submit_counted(engine, 1, "sleep 3")
    engine.until_status(long, "running")
    others = replica_set.secondaries()
    for node in others:
        node.pause()
    until(lambda: "a majority of its servers" in engine.execd("status", check=False).stdout, "status says what is missing")
    for node in others:
        node.resume()
    nothing_was_lost(engine, [long], timeout=120)
    assert engine.log().count("database does not answer") == 1
