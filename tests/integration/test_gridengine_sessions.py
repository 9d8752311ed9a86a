"""A session that is not closed costs the qmaster one of its 950 event clients for ten minutes: actors close theirs."""

from __future__ import annotations

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.gridengine import Cell

pytestmark = pytest.mark.gridengine

KILLS = 3


@pytest.fixture
def engine(own_gridengine: Cell, make_engine: MakeEngine) -> Engine:
    engine = make_engine(**own_gridengine.settings())
    engine.start()
    return engine


def sessions(cell: Cell) -> set[str]:
    """The ids of the event clients that DRMAA sessions are."""
    lines = [line.split() for line in cell.run("qconf", "-secl").splitlines()]
    return {words[0] for words in lines if len(words) == 3 and words[1] == "drmaa"}


def test_actors_leave_no_session_behind(engine: Engine, own_gridengine: Cell) -> None:
    before = sessions(own_gridengine)
    (killed,) = engine.submit({"command": ["sleep", "100"]})
    engine.until_status(killed, "running")
    engine.execd("kill", str(killed))
    refused, killed_job = engine.run({"command": ["true"], "resources": {"native": "-zzz"}})[0], engine.wait([killed])[0]
    assert (refused["status"], killed_job["status"]) == ("error", "killed")
    assert until(lambda: sessions(own_gridengine) - before, "a living actor has one")
    engine.stop()
    until(lambda: sessions(own_gridengine) <= before, "the sessions are closed")


def test_killed_actors_cost_one_session_each_and_keep_no_job_from_running(engine: Engine, own_gridengine: Cell) -> None:
    before = sessions(own_gridengine)
    for _ in range(KILLS):
        ids = engine.submit(*[{"command": ["true"]}] * 5)
        until(lambda: engine.process("execd: submit cluster"), "jobs are being submitted").kill()
        assert {job["status"] for job in engine.wait(ids)} == {"finished"}
    engine.stop()
    until(lambda: len(sessions(own_gridengine) - before) <= KILLS, "the sessions of all others are closed")
