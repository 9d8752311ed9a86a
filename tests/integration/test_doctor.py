"""`execd doctor` beside real engines: one that works, one that hangs, one that was killed, one whose system was taken away."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from execution_engine.cli.diagnosis import jobs
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import free_leases
from execution_engine.clock import SystemClock
from execution_engine.config import Database, safety
from execution_engine.store import open_store
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.jobs import a_job, claim_job, later, now


def report(engine: Engine, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.execd("doctor", "--json", *options, check=False).stdout)
    return found


def levels(engine: Engine, what: str) -> list[str]:
    return [found["level"] for found in report(engine)["found"] if found["what"] == what]


def test_a_working_engine_is_well(engine: Engine) -> None:
    engine.run({"command": ["true"]})
    seen = report(engine)
    told = [found["message"] for found in seen["found"] if found["level"] != "ok"]
    assert told == ([safety.AS_ROOT] if os.geteuid() == 0 else [])
    assert {"engine", "registry", "indexes", "jobs", "directories"} <= {found["what"] for found in seen["found"]}


def test_a_monitor_that_stands_still_is_a_problem_until_it_goes_on(engine: Engine) -> None:
    monitor = engine.process("execd: monitor")
    assert monitor is not None
    state = engine.config.run_dir / "state.json"
    old = json.loads(state.read_text())
    monitor.send_signal(signal.SIGSTOP)
    try:
        told = SystemClock().now() - timedelta(seconds=60)
        state.write_text(json.dumps({**old, "at": told.isoformat()}))  # as if it had stood still for that long
        assert levels(engine, "engine") == ["problem"]
    finally:
        monitor.send_signal(signal.SIGCONT)
    until(lambda: levels(engine, "engine") == ["ok"], "it tells of itself again")


def test_what_a_killed_engine_left_is_mended_without_an_engine(make_engine: MakeEngine) -> None:
    engine = make_engine(engine={"lease": "1s"})
    engine.start()
    processes = engine.processes()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)
    until(lambda: levels(engine, "registry") == ["warning"], "its record is old")
    repaired = [found["repaired"] for found in report(engine, "--repair", "--yes")["found"] if found["what"] == "registry"]
    assert "removed" in repaired[0]
    assert levels(engine, "registry") == []
    engine.start()
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_waiting_jobs_of_a_system_that_was_taken_out_run_elsewhere_after_the_repair(make_engine: MakeEngine) -> None:
    systems = {"here": {"class": "Local", "slots": 2}, "spare": {"class": "Local", "slots": 1}}
    spare = {"name": "spare", "rules": [{"tag": {"names": ["spare"]}}], "execution_system": "spare"}
    default = {"name": "default", "execution_system": "here"}
    engine = make_engine(execution_systems=systems, routes=[spare, default])
    engine.start()
    running, *waiting = engine.submit(
        {"command": ["sleep", "300"], "tags": ["spare"]}, *({"command": ["true"], "tags": ["spare"]} for _ in range(3))
    )
    engine.until_status(running, "running")
    for job_id in waiting:
        engine.until_status(job_id, "to be submitted")
    engine.change(execution_systems={"here": systems["here"]}, routes=[default])
    engine.execd("reload")
    engine.execd("doctor", "--repair", "--yes", check=False)
    jobs = engine.wait(waiting)
    assert {(job["status"], job["execution"]["system"]) for job in jobs} == {("finished", "here")}
    assert all("doctor" in [entry["why"] for entry in job["history"]][2] for job in jobs)
    assert engine.job(running)["status"] == "running", "what its system has is left to it"
    os.kill(int(engine.job(running)["execution"]["job_no"].partition(".")[0]), signal.SIGTERM)


def test_deaths_of_the_engines_processes_are_told_for_an_hour(engine: Engine) -> None:
    server = engine.process("execd: fork server")
    assert server is not None
    server.kill()
    until(lambda: levels(engine, "processes of the engine") == ["warning"], "it is told")
    assert report(engine)["ok"], "the engine has mended that itself"


@pytest.mark.mongodb
def test_indexes_of_a_server_are_made_again(mongodb_database: Database, make_engine: MakeEngine) -> None:
    engine = make_engine(database={"url": mongodb_database.url, "name": mongodb_database.name})
    engine.start()
    with pymongo.MongoClient[dict[str, Any]](mongodb_database.url) as client:
        client[mongodb_database.name]["jobs"].drop_index("lease.owner_1")
    assert levels(engine, "indexes") == ["problem"]
    assert report(engine, "--repair", "--yes")["ok"]
    assert levels(engine, "indexes") == ["ok"]


@pytest.mark.mongodb
def test_leases_that_hold_do_not_seem_to_have_ended_where_the_clock_is_ahead(mongodb_database: Database, tmp_path: Path) -> None:
    held = HeldClock(now() + timedelta(minutes=5))
    ahead = Patient(configuration(tmp_path, database=mongodb_database.model_dump()), None, held)
    with open_store(mongodb_database, SystemClock()) as store:
        store.boot(create=True)
        (job_id,) = store.insert([a_job()])
        claim_job(store, until=later(60))
        assert [found.what for found in jobs.unfinished(ahead, store) if found.repair] == []
        assert free_leases(ahead, "boot/1", [job_id]).startswith("0 jobs")
        store.renew("boot/1", later(-120))
        assert [found.what for found in jobs.unfinished(ahead, store) if found.repair] == ["leases"]
