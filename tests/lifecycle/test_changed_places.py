"""An engine whose configuration file names other places by now."""

from __future__ import annotations

import pytest

from tests.support.engines import Engine


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
