"""A master that was stopped by a signal, and a run directory that was emptied."""

from __future__ import annotations

import signal

from execution_engine.engine import state
from tests.support.engines import Engine, until


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
