"""A slow accounting holds back nothing but the ends of the jobs that it is asked about."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, ends, leave_exit_record, until

PLUGIN = '''
import os
import time

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


@execution_systems.register
class SlowAccounts(execution_systems.ExecutionSystem):
    """Runs nothing, loses jobs called `lost`, and tells what became of them when the file that they name is there."""

    def run(self, job):
        return f"slow-{job.text_id}"

    def get_status(self, job):
        return Status.UNKNOWN if job.name == "lost" else Status.RUNNING

    def kill(self, job):
        pass

    def account(self, job, record):
        if record is not None:
            return None
        with open(job.env["CALLS"], "a") as calls:
            calls.write(f"{job.text_id}\\n")
        for _ in range(600):
            if os.path.exists(job.env["GO"]):
                return execution_systems.Account("memory", message="said the accounting")
            time.sleep(0.1)
'''


@pytest.fixture
def slow(make_engine: MakeEngine) -> Engine:
    systems = {"here": {"class": "Local", "slots": 2}, "slow": {"class": "SlowAccounts"}}
    engine = make_engine(execution_systems=systems, routes=[{"name": "default", "execution_system": "slow"}])
    (engine.directory / "execution_systems" / "slow.py").write_text(PLUGIN)
    engine.start()
    return engine


def test_a_slow_accounting_holds_back_no_end_of_another_job_and_is_asked_once(slow: Engine) -> None:
    calls, go = slow.directory / "calls", slow.directory / "go"
    env = {"CALLS": str(calls), "GO": str(go)}
    lost = slow.submit(*({"command": ["true"], "name": "lost", "env": env} for _ in range(2)))
    for job_id in lost:
        slow.until_status(job_id, "unknown")
    until(calls.exists, "the accounting is asked")
    (quick,) = slow.submit({"command": ["true"]})
    leave_exit_record(Path(slow.until_status(quick, "running")["dir"]))
    began = time.monotonic()
    assert ends(slow.wait([quick])) == [("finished", 0, None)]
    assert time.monotonic() - began < 15, "not at the accounting's pace"
    assert "accounting slow" in [actor["title"] for actor in slow.state()["actors"] if actor["state"] == "busy"]
    assert len(calls.read_text().splitlines()) == 1, "the first is not answered yet"
    go.touch()
    assert ends(slow.wait(lost)) == [("error", None, "memory")] * 2
    assert sorted(calls.read_text().split()) == sorted(map(str, lost)), "once for each job"
