"""What apps and people ask of jobs: kill, hold, release, suspend, resume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution_engine.jobs.status import FINAL
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, statuses, until


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """One engine for the whole module, with free slots for each test."""
    yield shared_engine
    with shared_engine.client() as client:
        client.request([job["_id"] for job in client.find() if job["status"] not in FINAL], "kill")
        until(lambda: {job["status"] for job in client.find()} <= FINAL, "the jobs of the test have ended")


def members(job: dict[str, Any]) -> list[psutil.Process]:
    """The processes of a running job's session."""
    leader = int(job["execution"]["job_no"].split(".")[0])
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process)
        except OSError:
            continue
    return found


def test_kill_ends_a_running_job_and_all_of_its_processes(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "sleep 300 & sleep 300 & wait"})
    engine.until_status(job_id, "running")
    processes = until(lambda: (found := members(engine.job(job_id))) and len(found) >= 4 and found, "all processes of the job")
    engine.execd("kill", str(job_id))
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("killed", "killed")
    assert psutil.wait_procs(processes, timeout=15)[1] == []
    assert job.get("request") is None


def test_a_job_that_ignores_sigterm_is_killed_all_the_same(make_engine: MakeEngine) -> None:
    engine = make_engine(engine={"kill_delay": "0.5s"})
    engine.start()
    (job_id,) = engine.submit({"command": "trap '' TERM; while :; do sleep 1; done"})
    engine.until_status(job_id, "running")
    engine.execd("kill", str(job_id))
    (job,) = engine.wait([job_id])
    assert job["status"] == "killed"


def test_a_job_that_waits_is_killed_without_ever_running(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems={"here": {"class": "Local", "slots": 1}})
    engine.start()
    first, second = engine.submit({"command": ["sleep", "300"]}, {"command": "touch ran"})
    engine.until_status(first, "running")
    engine.until_status(second, "to be submitted")
    engine.execd("kill", str(second), str(first))
    killed = engine.wait([first, second])
    assert [job["status"] for job in killed] == ["killed", "killed"]
    assert not (Path(killed[1]["dir"]) / "ran").exists()


def test_a_kill_that_is_there_at_the_insert_is_not_lost(make_engine: MakeEngine) -> None:
    engine = make_engine()
    ids = engine.submit(*({"command": "touch ran", "request": "kill"} for _ in range(20)))
    engine.start()
    assert {job["status"] for job in engine.wait(ids)} == {"killed"}


def test_kills_that_arrive_while_jobs_are_built_and_submitted_are_not_lost(engine: Engine) -> None:
    ids = engine.submit(*({"command": ["sleep", "300"]} for _ in range(40)))
    engine.execd("kill", *map(str, ids))
    assert {job["status"] for job in engine.wait(ids)} == {"killed"}


def test_jobs_that_are_inserted_with_a_hold_do_not_start(engine: Engine) -> None:
    """Whichever actor sees them first."""
    ids = engine.submit(*({"command": ["true"], "request": "hold"} for _ in range(20)))
    for job_id in ids:
        job = engine.until_status(job_id, "hold")
        assert (job["requested"]["what"], job.get("refused")) == ("hold", None)
    engine.execd("release", *map(str, ids))
    assert {job["status"] for job in engine.wait(ids)} == {"finished"}


def test_hold_keeps_a_job_back_until_release(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems={"here": {"class": "Local", "slots": 1}})
    engine.start()
    first, second = engine.submit({"command": ["sleep", "300"]}, {"command": ["true"]})
    engine.until_status(second, "to be submitted")
    engine.execd("hold", str(second))
    engine.until_status(second, "hold")
    engine.execd("kill", str(first))
    engine.wait([first])
    assert engine.job(second)["status"] == "hold"
    engine.execd("release", str(second))
    assert engine.wait([second])[0]["status"] == "finished"


def test_suspend_stops_the_whole_group_and_resume_lets_it_go_on(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "sleep 3 & wait; echo done"})
    engine.until_status(job_id, "running")
    engine.execd("suspend", str(job_id))
    job = engine.until_status(job_id, "suspended")
    assert {process.status() for process in members(job)} == {psutil.STATUS_STOPPED}
    engine.execd("resume", str(job_id))
    (job,) = engine.wait([job_id])
    assert job["status"] == "finished"
    assert statuses(job)[-3:] == ["suspended", "running", "finished"]


def test_a_job_that_is_resumed_before_anybody_saw_it_suspended_goes_on(make_engine: MakeEngine) -> None:
    rarely = {"min": "60s", "max": "60s"}
    engine = make_engine(engine={"status_interval": rarely, "actor_linger": "60s"})
    engine.start()
    (job_id,) = engine.submit({"command": "sleep 300 & wait"})
    processes = until(lambda: (job := engine.job(job_id))["status"] == "running" and members(job), "it runs")
    status_actor = until(lambda: engine.process("execd: status here"), "a status actor")
    status_actor.suspend()
    try:
        for what, state in (("suspend", psutil.STATUS_STOPPED), ("resume", psutil.STATUS_SLEEPING)):
            engine.execd(what, str(job_id))
            until(lambda state=state: {process.status() for process in processes} == {state}, f"the effect of {what}")
    finally:
        status_actor.resume()
    assert engine.job(job_id).get("refused") is None
    engine.execd("kill", str(job_id))
    engine.wait([job_id])


def test_resume_lets_go_on_what_a_suspension_that_was_cut_short_had_stopped(engine: Engine) -> None:
    """The actor died before the job's script was stopped, and the app took its request back by asking for the opposite."""
    (job_id,) = engine.submit({"command": "sleep 300 & wait"})
    job = engine.until_status(job_id, "running")
    leader = int(job["execution"]["job_no"].partition(".")[0])
    stopped = until(
        lambda: [process for process in members(job) if process.pid != leader and process.name() == "sleep"], "it runs"
    )
    for process in stopped:
        process.suspend()
    engine.execd("resume", str(job_id), check=False)
    until(lambda: all(process.status() == psutil.STATUS_SLEEPING for process in stopped), "all of it goes on")
    engine.execd("kill", str(job_id))
    engine.wait([job_id])


def test_a_suspended_job_can_be_killed(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "300"]})
    engine.until_status(job_id, "running")
    engine.execd("suspend", str(job_id))
    engine.until_status(job_id, "suspended")
    engine.execd("kill", str(job_id))
    assert engine.wait([job_id])[0]["status"] == "killed"


@pytest.mark.parametrize(
    ("what", "words"), [("hold", "suspend"), ("release", "release"), ("resume", "resume"), ("explode", "no request")]
)
def test_a_request_that_makes_no_sense_is_refused_and_the_job_says_why(engine: Engine, what: str, words: str) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "300"]})
    engine.until_status(job_id, "running")
    with engine.client() as client:
        client.store.request([job_id], what)
    job = until(lambda: (document := engine.job(job_id)).get("refused") and document, "the refusal")
    assert words in job["refused"]["why"]
    assert job.get("request") is None
    assert job["status"] == "running"


def test_a_request_for_a_job_that_has_ended_is_refused(engine: Engine) -> None:
    (job,) = engine.run({"command": ["true"]})
    done = engine.execd("kill", str(job["_id"]), check=False)
    assert done.returncode == 1
    assert "ended" in done.stderr
    assert engine.job(job["_id"])["status"] == "finished"


def test_requests_are_carried_out_within_a_poll(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "300"]})
    engine.until_status(job_id, "running")
    engine.execd("kill", str(job_id))
    engine.until_status(job_id, "killed", timeout=3)
