"""A submit actor that takes up what another one had begun: it asks the system for each job first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from execution_engine.engine.actor import Workplace
from execution_engine.engine.assembly import assemble, lane
from execution_engine.engine.channel import Channel
from execution_engine.engine.submit_actor import SubmitActor
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Claimed, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Options
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job

LEASE = 60.0
JOBS = 10


def test_looking_for_many_jobs_may_take_longer_than_the_lease(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> None:
    taken: list[Claimed] = []

    class Slow(ExecutionSystem):
        """Has none of the jobs, and takes its time to say so."""

        def run(self, job: Job) -> str:
            return job.text_id

        def get_status(self, job: Job) -> Status:
            return job.status

        def kill(self, job: Job) -> None:
            raise NotImplementedError

        def find(self, job: Job) -> None:
            del job
            clock.move(LEASE / 3)
            until = clock.now() + timedelta(seconds=LEASE)
            taken.extend(store.claim(Query(Work.SUBMIT, here), "f/submit-1", JOBS, clock.now(), until))

    config = configuration(tmp_path, engine={"lease": LEASE, "actor_linger": 0})
    site = assemble(config)
    here = lane(site.systems["here"])
    monitor, end = Channel.pair()
    begun = {"status": "submitting", "due_at": clock.now(), "execution": {"lane": here, "system": "here", "name": "n"}}
    store.insert([{**a_job(), **begun} for _ in range(JOBS)])
    actor = SubmitActor(Workplace(site, store, clock, end, owner="e/submit-1"), "here")
    actor.system = Slow(Context("here", tmp_path), Options())
    assert actor.run() == 0
    assert not taken
    assert store.count() == {"submitted": JOBS}
    monitor.close()
    end.close()
