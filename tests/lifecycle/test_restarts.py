"""The engine is stopped and started while jobs come and go: all end, and each ran once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import psutil

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import EXECD, Engine, until

JOBS = 150


def runs(engine: Engine) -> Counter[str]:
    """How often each job's command ran: it appends its id to a file of its own."""
    return Counter(line for path in (engine.directory / "ran").iterdir() for line in path.read_text().split())


def test_jobs_inserted_while_the_engine_is_stopped_and_started_five_times_all_end_and_each_ran_once(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()
    (engine.directory / "ran").mkdir()
    engine.start()
    command = f"echo $EXECD_JOB_ID >> {engine.directory}/ran/$EXECD_JOB_ID; sleep 0.0$(( $$ % 10 ))"
    simulate = [
        *EXECD,
        "-c",
        str(engine.file),
        "simulate",
        "--jobs",
        str(JOBS),
        "--interval",
        "0",
        "--failing",
        "0",
        "--command",
        command,
        "--json",
    ]
    app = subprocess.Popen(simulate, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(5):
            engine.stop()
            engine.start()
        output, _ = app.communicate(timeout=60)
    finally:
        app.kill()
        app.wait()
    ids = json.loads(output)["ids"]
    with engine.client() as client:
        jobs = engine.wait([client.store.resolve(job_id) for job_id in ids])
    assert {job["status"] for job in jobs} == {"finished"}
    assert runs(engine) == Counter(dict.fromkeys(ids, 1))


def test_jobs_survive_the_death_of_every_process_of_the_engine_and_each_ran_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    (engine.directory / "ran").mkdir()
    engine.start()
    command = f"echo $EXECD_JOB_ID >> {engine.directory}/ran/$EXECD_JOB_ID; sleep 0.05"
    ids = engine.submit(*({"command": command} for _ in range(60)))
    for _ in range(4):
        until(lambda: len(list((engine.directory / "ran").iterdir())) > 2, "some jobs ran")
        processes = engine.kill()
        psutil.wait_procs(processes, timeout=10)
        engine.start()
    jobs = engine.wait(ids)
    assert {job["status"] for job in jobs} == {"finished"}
    assert runs(engine) == Counter({str(job_id): 1 for job_id in ids})


def test_an_idle_engine_leaves_nothing_behind_in_its_run_directory(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.start()
    engine.run({"command": ["true"]})
    engine.stop()
    left = {path.name for path in Path(engine.config.run_dir).iterdir()}
    assert not left & {"execd.pid", "wake", "log"}, "sockets and pid file are gone"
