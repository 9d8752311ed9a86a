"""An engine of a configuration file that runs on another run directory than the file names by now.

The run directory's lock tells nothing of it, nor does the database if that was changed as well: so the masters themselves are
looked at, each of which holds the pid file of its run directory open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from execution_engine.engine import machine, state
from execution_engine.master.master import MASTER_TITLE
from execution_engine.master.pid_file import PID_FILE, AlreadyRunning

_REMOVED = " (deleted)"


class RunsElsewhere(AlreadyRunning):
    """An engine of this configuration runs on another run directory."""

    def __init__(self, run_dir: Path, pid: int, named: Path) -> None:
        self.pid, self.run_dir = pid, run_dir
        self.advice = "set run_dir back, `execd stop`, then change it; or give another engine a file of its own"
        wrong = f"an engine of this configuration runs on {run_dir} (pid {pid}), though run_dir is {named} by now"
        super(AlreadyRunning, self).__init__(f"{wrong}: {self.advice}")


def refuse_elsewhere(config_file: Path, run_dir: Path) -> None:
    """Raises RunsElsewhere when an engine of this file that is not on this run directory runs under this user, on this host."""
    for pid in _masters():
        held = _held_by(pid)
        if held is None or os.path.realpath(held) == os.path.realpath(run_dir):
            continue
        told = state.read(held, state.STATE).get("config")
        if isinstance(told, str) and os.path.realpath(told) == os.path.realpath(config_file):
            raise RunsElsewhere(held, pid, run_dir)


def _masters() -> Iterator[int]:
    me = os.geteuid()
    for process in psutil.process_iter():
        try:
            mine = process.uids().effective == me
        except psutil.Error:
            continue
        if mine and machine.runs(process.pid, MASTER_TITLE):
            yield process.pid


def _held_by(pid: int) -> Path | None:
    """The run directory whose pid file this process holds; None where it ends just now."""
    try:
        files = [Path(str(each.readlink()).removesuffix(_REMOVED)) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    return next((file.parent for file in files if file.name == PID_FILE), None)
