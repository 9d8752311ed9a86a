"""Any process of the engine is killed at any moment while jobs go through a real Grid Engine cell: each command runs once."""

from __future__ import annotations

import os
import random
import time

import psutil
import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.gridengine import Cell

pytestmark = pytest.mark.gridengine

JOBS = 200
KILLS = int(os.environ.get("EXECD_TEST_KILLS", "8"))
"""How often a process is killed; 20 and more for a thorough look."""
VICTIMS = ("submit cluster", "status cluster", "monitor", "master")


def kill(engine: Engine, name: str) -> None:
    """Kills the process with this title, which is there or is about to be; a dead master is followed by another."""

    def killed() -> bool:
        try:
            process = engine.process(f"execd: {name}")
            if process is not None:
                process.kill()
                process.wait(10)
            return process is not None
        except (psutil.Error, OSError, ValueError):
            return False

    until(killed, f"{name} was killed\n{engine.log()[-3000:]}")
    if name == "master":
        engine.start()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_job_ends_and_each_command_runs_exactly_once(gridengine: Cell, make_engine: MakeEngine) -> None:
    engine = make_engine(**gridengine.settings())
    engine.start()
    runs = engine.directory / "runs"
    runs.mkdir()
    commands = [f"echo run >>{runs}/{number}; sleep 0.{number % 5}" for number in range(JOBS)]
    chance = random.Random(os.environ.get("EXECD_TEST_SEED"))
    ids = []
    for number in range(KILLS):
        ids += engine.submit(*({"command": command} for command in commands[number::KILLS]))
        time.sleep(chance.uniform(0.0, 0.5))
        kill(engine, VICTIMS[number % len(VICTIMS)])
    jobs = engine.wait(ids, timeout=100)
    assert {job["status"] for job in jobs} == {"finished"}, [job["error"] for job in jobs if job["status"] != "finished"]
    assert [(runs / str(number)).read_text() for number in range(JOBS)] == ["run\n"] * JOBS
