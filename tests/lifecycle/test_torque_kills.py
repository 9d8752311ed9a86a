"""Any process of the engine is killed at any moment while jobs go through Torque: each command runs once."""

from __future__ import annotations

import os

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.kills import every_command_runs_once
from tests.support.torque_stand_in import StandIn

JOBS = 60
KILLS = int(os.environ.get("EXECD_TEST_KILLS", "8"))
"""How often a process is killed; 20 and more for a thorough look."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_job_ends_and_each_command_runs_exactly_once(torque: StandIn, make_engine: MakeEngine) -> None:
    engine = make_engine(**torque.settings())
    engine.start()
    every_command_runs_once(engine, "pbs", JOBS, KILLS)
