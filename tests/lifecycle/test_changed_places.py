"""An engine whose configuration file names other places by now."""

from __future__ import annotations

import pytest

from execution_engine.engine.file_system import FILES
from tests.support.engines import Engine, until


@pytest.mark.parametrize("database", ["the same database", "another database"])
def test_an_engine_that_runs_on_the_run_directory_of_before_is_noticed(engine: Engine, database: str) -> None:
    before, pid, run_dir = engine.file.read_text(), engine.master().pid, engine.config.run_dir
    engine.change(run_dir="run2")
    if database == "another database":
        engine.change(database={"url": "sqlite:///other.db"})
    try:
        for command, code in {"start": 4, "restart": 4, "reload": 4, "stop": 4, "status": 1, "doctor": 1}.items():
            done = engine.execd(command, check=False)
            said = done.stdout + done.stderr
            assert (done.returncode, f"runs on {run_dir} (pid {pid})" in said) == (code, True), (command, said)
            assert "set run_dir back" in said
    finally:
        engine.file.write_text(before)
    assert engine.master().pid == pid
    engine.stop()


def test_another_file_may_have_an_engine_beside_it(engine: Engine) -> None:
    other = engine.directory / "other.yaml"
    other.write_text(engine.file.read_text().replace("run_dir: run", "run_dir: run2").replace("execd.log", "other.log"))
    other.chmod(0o600)
    for command in ("start", "status", "stop"):
        engine.execd("-c", str(other), command, configured=False)


def test_a_jobs_dir_that_was_replaced_is_an_outage_that_costs_no_job(engine: Engine) -> None:
    jobs_dir = engine.config.jobs_dir
    go = engine.directory / "go"
    (running,) = engine.submit({"command": ["sh", "-c", f"until [ -e {go} ]; do sleep 0.1; done"]})
    engine.until_status(running, "running")
    away = jobs_dir.rename(jobs_dir.with_name("away"))
    jobs_dir.mkdir(mode=0o700)
    (waiting,) = engine.submit({"command": ["true"]})
    until(lambda: any(each["what"] == FILES for each in engine.state()["outages"]), "the outage is told")
    status = engine.execd("status", check=False)
    assert (status.returncode, "is its file system mounted?" in status.stdout) == (1, True)
    doctor = engine.execd("doctor", check=False).stdout
    assert "is the file system mounted?" in doctor
    assert "execd kill" not in doctor
    assert [*jobs_dir.iterdir()] == [], "nothing is built where the jobs are not"
    assert engine.job(waiting)["status"] == "to be built"
    go.touch()
    jobs_dir.rmdir()
    away.rename(jobs_dir)
    assert [job["status"] for job in engine.wait([running, waiting])] == ["finished", "finished"]
    until(lambda: engine.state()["outages"] == [], "the outage is over")


def test_a_jobs_dir_that_was_replaced_on_purpose_is_taken_by_a_restart(engine: Engine) -> None:
    engine.config.jobs_dir.rename(engine.directory / "away")
    engine.config.jobs_dir.mkdir(mode=0o700)
    engine.execd("restart")
    (job,) = engine.run({"command": ["true"]})
    assert job["status"] == "finished"
