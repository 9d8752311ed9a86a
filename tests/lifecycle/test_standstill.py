"""A master that was stopped by a signal, and a run directory that was emptied."""

from __future__ import annotations

import signal
import subprocess

import psutil

from execution_engine.engine import state
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import EXECD, Engine, until


def test_a_master_that_stands_still_is_told_of_by_every_command(engine: Engine) -> None:
    master = engine.master()
    master.send_signal(signal.SIGSTOP)
    try:
        for command in ("status", "doctor", "reload", "stop"):
            done = engine.execd(command, check=False)
            said = done.stdout + done.stderr
            assert (done.returncode, f"the master (pid {master.pid}) does not answer" in said) == (1, True), (command, said)
            assert f"kill -CONT {master.pid}" in said
    finally:
        master.send_signal(signal.SIGCONT)
    until(lambda: not master.is_running(), "it stops, as it was asked to")


def test_what_an_engine_remembers_for_the_next_one_is_put_back(engine: Engine) -> None:
    file = engine.config.run_dir / state.ENGINE
    before = state.read(engine.config.run_dir, state.ENGINE)
    file.unlink()
    until(file.exists, "it is back")
    assert state.read(engine.config.run_dir, state.ENGINE) == before


def test_a_start_that_is_interrupted_leaves_no_engine(make_engine: MakeEngine) -> None:
    engine = make_engine()
    rules = engine.directory / "routing_rules"
    rules.mkdir(mode=0o700, exist_ok=True)
    (rules / "slow.py").write_text("import time; time.sleep(1000)")
    pid_file = engine.config.run_dir / "execd.pid"
    with subprocess.Popen([*EXECD, "-c", str(engine.file), "start"], stderr=subprocess.DEVNULL) as start:
        until(lambda: pid_file.exists() and pid_file.read_text(), "the master is there")
        master = engine.master()
        start.send_signal(signal.SIGINT)
        assert start.wait(timeout=30) != 0
    assert psutil.wait_procs([master], timeout=5)[1] == []
