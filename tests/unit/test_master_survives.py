"""A master survives what a monitor hands over to it, and a run directory that it cannot write to."""

from __future__ import annotations

import os
from pathlib import Path

from execution_engine.clock import SystemClock
from execution_engine.engine import state
from execution_engine.master.master import Master
from execution_engine.master.trouble import MonitorTrouble
from tests.support.building import configuration


def test_a_configuration_that_only_another_version_understands_is_kept_for_that_one(tmp_path: Path) -> None:
    master = Master(configuration(tmp_path), SystemClock(), lambda _message: None)
    master._accepted = os.memfd_create("before")
    handed = os.memfd_create("of another version")
    os.write(handed, b"not what this version reads")
    master._accept(handed)
    assert master._accepted == handed, "the next monitor is of that version too"
    os.close(handed)


def test_trouble_that_cannot_be_forgotten_on_the_disk_ends_no_master(tmp_path: Path) -> None:
    (tmp_path / state.MONITOR).mkdir()
    MonitorTrouble(tmp_path, SystemClock()).over()
