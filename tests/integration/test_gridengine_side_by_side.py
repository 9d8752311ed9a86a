"""Systems side by side in one engine: a cell, the same by another SGE_ROOT, one whose qmaster is away, and this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import until
from tests.support.gridengine import Cell

pytestmark = pytest.mark.gridengine

NAMES = ("cluster", "twin", "lost", "here")


def test_cells_and_this_machine_run_their_jobs_whatever_becomes_of_another_cell(
    gridengine: Cell, make_engine: MakeEngine, short_dir: Path
) -> None:
    root = short_dir / "root"
    root.symlink_to(gridengine.options["root"])
    options = {"class": "OGS", "timeout": "5s", **gridengine.options}
    systems = {
        "cluster": options,
        "twin": {**options, "root": str(root)},
        "lost": {**options, "qmaster_port": 1},
        "here": {"class": "Local"},
    }
    routes = [{"name": name, "rules": [{"tag": {"names": name}}], "execution_system": name} for name in NAMES]
    engine = make_engine(**{**gridengine.settings(), "execution_systems": systems, "routes": routes})
    engine.start()
    monitor = until(lambda: engine.process("execd: monitor"), "the monitor is there")
    servers = [process for process in monitor.children() if process.cmdline()[0] == "execd: fork server"]
    assert len(servers) == 4, "one for each environment, and one for all that need none"
    ids = {name: engine.submit(*[{"command": ["true"], "tags": [name]}] * 3) for name in NAMES}
    for name in ("cluster", "twin", "here"):
        jobs = engine.wait(ids[name])
        assert {(job["status"], job["execution"]["system"]) for job in jobs} == {("finished", name)}
    until(lambda: not engine.state()["systems"]["lost"]["ok"], "execd status shows which one is away")
    assert all(engine.state()["systems"][name]["ok"] for name in ("cluster", "twin", "here"))
    assert {engine.job(job_id)["status"] for job_id in ids["lost"]} <= {"to be submitted", "submitting"}
    engine.execd("kill", *map(str, ids["lost"]))
    assert {job["status"] for job in engine.wait(ids["lost"])} == {"killed"}
