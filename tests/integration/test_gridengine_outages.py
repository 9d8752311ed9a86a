"""The qmaster is away, or hangs: nothing is decided about any job, and all goes on when it is back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, statuses, until
from tests.support.gridengine import Cell

pytestmark = pytest.mark.gridengine


@pytest.fixture
def engine(own_gridengine: Cell, make_engine: MakeEngine) -> Engine:
    engine = make_engine(**own_gridengine.settings(timeout="2s"))
    engine.start()
    return engine


def system(engine: Engine) -> dict[str, Any]:
    return engine.state()["systems"]["cluster"]


def lines(engine: Engine, words: str) -> list[str]:
    return [line for line in engine.log().splitlines() if words in line]


def test_a_qmaster_that_is_away_changes_no_status_and_is_waited_for(engine: Engine, own_gridengine: Cell) -> None:
    running, ending = engine.submit(
        {"command": "while [ ! -e go ]; do sleep 0.1; done"}, {"command": "while [ ! -e go ]; do sleep 0.1; done; exit 3"}
    )
    directories = [Path(engine.until_status(job_id, "running")["dir"]) for job_id in (running, ending)]
    own_gridengine.testbed("outage")
    (new,) = engine.submit({"command": ["true"]})
    until(lambda: not system(engine)["ok"], "execd status shows the outage")
    (directories[1] / "go").touch()
    assert engine.wait([ending])[0]["exit"]["code"] == 3  # its record tells, without the cell
    until(lambda: [outage for outage in engine.state()["outages"] if outage["count"] > 3], "it is tried again and again")
    assert engine.job(running)["status"] == "running"
    assert engine.job(new)["status"] in ("to be submitted", "submitting")
    own_gridengine.testbed("up")
    (job,) = engine.wait([new])
    assert job["status"] == "finished"
    until(lambda: system(engine)["ok"], "execd status shows that it is over")
    (directories[0] / "go").touch()
    (job,) = engine.wait([running])
    assert job["status"] == "finished"
    assert statuses(job).count("running") == 1
    assert "unknown" not in statuses(job)
    assert len(lines(engine, "cluster does not answer:")) == 1
    assert len(lines(engine, "cluster answers again")) == 1


def test_a_qmaster_that_hangs_costs_no_job_and_blames_none(engine: Engine, own_gridengine: Cell) -> None:
    (running,) = engine.submit({"command": "while [ ! -e go ]; do sleep 0.1; done"})
    directory = Path(engine.until_status(running, "running")["dir"])
    qmaster = own_gridengine.qmaster()
    os.kill(qmaster, signal.SIGSTOP)
    try:
        ids = engine.submit(*({"command": "echo run >> runs"} for _ in range(10)))
        until(lambda: not system(engine)["ok"], "execd status shows the outage", timeout=60)
    finally:
        os.kill(qmaster, signal.SIGCONT)
    jobs = engine.wait(ids)
    assert {job["status"] for job in jobs} == {"finished"}
    assert {(Path(job["dir"]) / "runs").read_text() for job in jobs} == {"run\n"}
    assert {job["lease"]["crashes"] for job in jobs} == {0}
    (directory / "go").touch()
    assert engine.wait([running])[0]["status"] == "finished"


def test_submissions_in_whose_midst_the_qmaster_is_killed_run_once(engine: Engine, own_gridengine: Cell) -> None:
    ids = engine.submit(*({"command": "echo run >> runs"} for _ in range(100)))
    until(lambda: lines(engine, "→ submitted"), "submissions have begun")
    os.kill(own_gridengine.qmaster(), signal.SIGKILL)
    own_gridengine.testbed("up")
    jobs = engine.wait(ids, timeout=100)
    assert {job["status"] for job in jobs} == {"finished"}
    assert {(Path(job["dir"]) / "runs").read_text() for job in jobs} == {"run\n"}


def test_a_limit_on_the_number_of_jobs_lets_the_others_wait(engine: Engine, own_gridengine: Cell, tmp_path: Path) -> None:
    with own_gridengine.configured(tmp_path, max_u_jobs="5"):
        jobs = engine.run(*({"command": ["sleep", "0.5"]} for _ in range(15)))
    assert {job["status"] for job in jobs} == {"finished"}
    assert {entry["status"] for job in jobs for entry in job["history"][:5]} >= {"submitted"}
    assert max(len(job["history"]) for job in jobs) <= 8
    assert len(lines(engine, "only 5 jobs are allowed")) == 1
    assert not lines(engine, "does not answer")


def test_a_host_that_may_not_submit_any_more_costs_no_job(engine: Engine, own_gridengine: Cell) -> None:
    host = own_gridengine.run("qconf", "-ss").strip()
    own_gridengine.run("qconf", "-ds", host)
    try:
        (job_id,) = engine.submit({"command": ["true"]})
        until(lambda: (system(engine)["rests"] or {}).get("state") == "closed", "it was refused")
        assert "submit host" in engine.execd("status").stdout
    finally:
        own_gridengine.run("qconf", "-as", host)
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_a_slow_accounting_holds_back_no_other_end_and_is_shown(
    own_gridengine: Cell, make_engine: MakeEngine, short_dir: Path
) -> None:
    commands = short_dir / "commands"
    commands.mkdir()
    for name in ("qconf", "qstat"):
        (commands / name).symlink_to(own_gridengine.commands / name)
    qacct = commands / "qacct"
    qacct.write_text(f'#!/bin/sh\necho >>{short_dir}/asked\nsleep 7\nexec {own_gridengine.commands}/qacct "$@"\n')
    qacct.chmod(0o755)
    engine = make_engine(**own_gridengine.settings(commands=str(commands)))
    engine.start()
    lost = engine.submit(*({"command": "sleep 1; kill -9 $PPID"} for _ in range(8)))
    until(lambda: (short_dir / "asked").exists(), "the accounting is asked")
    began = time.monotonic()
    (job,) = engine.run({"command": ["true"]})
    assert job["status"] == "finished"
    assert time.monotonic() - began < 6
    jobs = engine.wait(lost, timeout=60)
    assert {job["exit"]["code"] for job in jobs} == {137}
    assert len((short_dir / "asked").read_text()) <= 5
    until(lambda: "qacct takes 7 s" in engine.execd("status").stdout, "execd status shows it")
