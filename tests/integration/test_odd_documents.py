"""Whatever an engine's field holds, of whatever type and size, it costs that job alone: the jobs beside it go on as always."""

from __future__ import annotations

import time

from execution_engine.config import Database
from execution_engine.store.job_store import Filter
from tests.support.engine_fixtures import MakeEngine
from tests.support.jobs import a_job
from tests.support.odd_documents import odd_documents, with_odd_ids

DOCUMENTS = 2000
USUAL = 20.0
"""Seconds from the insert to the end, on a machine that does much else."""


def test_odd_documents_keep_no_healthy_job_from_its_end(make_engine: MakeEngine, database: Database) -> None:
    engine = make_engine(
        database={"url": database.url, "name": database.name},
        execution_systems={"here": {"class": "Local", "slots": 3000}},
        engine={"grace": "1s"},
    )
    engine.start()
    (example,) = engine.run(a_job())
    lane, directory = example["execution"]["lane"], str(engine.config.jobs_dir / "odd")
    with engine.client() as client:
        odd = [*odd_documents(DOCUMENTS, lane, directory), *with_odd_ids(lane, directory)]
        healthy: list[str] = []
        for begin in range(0, len(odd), 200):
            healthy += client.submit(a_job(name=f"healthy {begin} {number}") for number in range(4))
            client.store.insert(odd[begin : begin + 200])
            client.wake()
        ended = engine.wait(healthy, timeout=USUAL)
        assert {job["status"] for job in ended} == {"finished"}
        began = time.monotonic()
        later = engine.run(*(a_job() for _ in range(20)), timeout=USUAL)
        assert {job["status"] for job in later} == {"finished"}, time.monotonic() - began
        assert sum(1 for _ in client.store.find(Filter(), fields=["name"])) == len(odd) + len(healthy) + len(later) + 1
    assert engine.state()["outages"] == []
    assert [line for line in engine.log().splitlines() if " died: " in line or "fault of the engine" in line] == []
