"""Kills any process of an engine at any moment while jobs go through one of its systems."""

from __future__ import annotations

import os
import random
import time

import psutil

from tests.support.engines import Engine, until


def kill_a_process(engine: Engine, title: str) -> None:
    """Kills the process with this title, which is there or is about to be; a dead master is followed by another."""

    def killed() -> bool:
        try:
            process = engine.process(f"execd: {title}")
            if process is not None:
                process.kill()
                process.wait(10)
            return process is not None
        except (psutil.Error, OSError, ValueError):
            return False

    until(killed, f"{title} was killed\n{engine.log()[-3000:]}")
    if title == "master":
        engine.start()


def every_command_runs_once(engine: Engine, system: str, jobs: int, kills: int) -> None:
    """Submits so many jobs to the running engine, a part before each kill, and checks that all end and each command ran once.

    EXECD_TEST_SEED makes the moments of the kills those of another run.
    """
    victims = (f"submit {system}", f"status {system}", "monitor", "master")
    runs = engine.directory / "runs"
    runs.mkdir()
    commands = [f"echo run >>{runs}/{number}; sleep 0.{number % 5}" for number in range(jobs)]
    chance = random.Random(os.environ.get("EXECD_TEST_SEED"))
    ids = []
    for number in range(kills):
        ids += engine.submit(*({"command": command} for command in commands[number::kills]))
        time.sleep(chance.uniform(0.0, 0.5))
        kill_a_process(engine, victims[number % len(victims)])
    ended = engine.wait(ids, timeout=100)
    assert {job["status"] for job in ended} == {"finished"}, [job["error"] for job in ended if job["status"] != "finished"]
    assert [(runs / str(number)).read_text() for number in range(jobs)] == ["run\n"] * jobs
