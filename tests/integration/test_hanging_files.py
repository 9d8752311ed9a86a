"""A file system of the jobs that hangs, as a network file system does whose server is away, decides nothing about any job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_fixtures import TWO_SLOTS, MakeEngine
from tests.support.engines import Engine, ends, until

FILES = "the file system of jobs_dir"
QUICK = {"actor_deadline": "1500ms", "crashes": 2, "retry_delay": {"min": "100ms", "max": "500ms"}}


@pytest.fixture(scope="module")
def hanging_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets calls hang, for LD_PRELOAD."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build a library that lets calls hang: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("files") / "hanging_files.so"
    source = Path(__file__).parents[1] / "support" / "hanging_files.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def start(engine: Engine, library: Path) -> Path:
    """Starts the engine; while the file that is returned is there, nothing below `jobs_dir` answers it."""
    jobs_dir = engine.config.jobs_dir
    engine.execd("start", env={**os.environ, "LD_PRELOAD": str(library), "HANGING_FILES": str(jobs_dir)})
    return jobs_dir.with_name(f"{jobs_dir.name}.hang")


def outage(engine: Engine) -> dict[str, Any] | None:
    """What `execd status` says of it."""
    said = json.loads(engine.execd("status", "--json", check=False).stdout)
    return next((each for each in said["outages"] if each["what"] == FILES), None)


def wait_for(path: Path) -> str:
    return f"until [ -e {path} ]; do sleep 0.05; done"


def test_a_file_system_that_hangs_ends_no_job_that_runs_and_none_that_is_built(
    make_engine: MakeEngine, hanging_files: Path
) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine=QUICK)
    go, hang = engine.directory / "go", start(engine, hanging_files)
    (running,) = engine.submit({"command": wait_for(go)})
    engine.until_status(running, "running")
    hang.touch()
    waiting = engine.submit(*({"command": ["true"]} for _ in range(5)))
    until(lambda: (found := outage(engine)) and found["count"] >= 5, "it has been tried again and again", timeout=60)
    assert engine.job(running)["status"] == "running"
    assert {engine.job(each)["status"] for each in waiting} <= {"to be built", "building"}
    hang.unlink()
    go.touch()
    assert ends(engine.wait([running, *waiting])) == [("finished", 0, None)] * 6
    until(lambda: outage(engine) is None, "the outage is over")
    assert "actor crashed" not in engine.log()


def test_requests_are_not_dropped_for_a_file_system_that_hangs(make_engine: MakeEngine, hanging_files: Path) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine=QUICK)
    hang = start(engine, hanging_files)
    (running,) = engine.submit({"command": wait_for(engine.directory / "never")})
    engine.until_status(running, "running")
    hang.touch()
    engine.execd("kill", "--yes", str(running))
    until(lambda: (found := outage(engine)) and found["count"] >= 5, "it has been tried again and again", timeout=60)
    assert engine.job(running)["status"] == "running"
    assert not engine.job(running).get("refused")
    hang.unlink()
    assert ends(engine.wait([running]))[0][0] == "killed"


def test_a_file_system_that_is_not_mounted_declares_no_job_dead(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine={**QUICK, "grace": "500ms"})
    engine.start()
    go, jobs_dir = engine.directory / "go", engine.config.jobs_dir
    (running,) = engine.submit({"command": wait_for(go)})
    engine.until_status(running, "running")
    away = jobs_dir.rename(jobs_dir.with_name("away"))
    jobs_dir.mkdir(mode=0o700)
    go.touch()
    until(lambda: (found := outage(engine)) and found["count"] >= 3, "it has been tried again and again", timeout=60)
    assert engine.job(running)["status"] in ("running", "unknown")
    jobs_dir.rmdir()
    away.rename(jobs_dir)
    assert ends(engine.wait([running])) == [("finished", 0, None)]


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_an_examination_of_files_that_hang_has_a_deadline_and_the_others_are_told(
    make_engine: MakeEngine, hanging_files: Path, command: str
) -> None:
    engine = make_engine()
    jobs_dir = engine.config.jobs_dir
    jobs_dir.with_name(f"{jobs_dir.name}.hang").touch()
    began = time.monotonic()
    done = engine.execd(
        *(command, "--timeout", "5s", "--json"),
        check=False,
        env={**os.environ, "LD_PRELOAD": str(hanging_files), "HANGING_FILES": str(jobs_dir)},
    )
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    found = {each["what"]: each["message"] for each in json.loads(done.stdout)["found"]}
    assert found["jobs_dir"] == "no answer within 5 s: it hangs"
    assert found["run_dir"] == str(engine.config.run_dir)
    assert "slots" in found["execution system here"]
    if command == "doctor":
        assert found["clock of jobs dir"] == "no answer within 5 s"
        assert "is not running" in found["engine"]
