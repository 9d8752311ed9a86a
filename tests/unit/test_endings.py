"""The end of a job that its system has no longer: it is not said to have never started before its start is prevented."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from execution_engine.engine.endings import Endings
from execution_engine.engine.verdict import Observed
from execution_engine.jobs.exit_record import START_MARKER, is_prevented
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Account
from tests.support.building import a_job, configuration
from tests.support.clocks import HeldClock

GONE = Observed(None, Status.UNKNOWN, Account("never started"))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "job" / ".execd").mkdir(parents=True)
    return a_job(status="submitted", dir=str(tmp_path / "job"))


@pytest.fixture
def endings(tmp_path: Path, clock: HeldClock) -> Endings:
    return Endings(configuration(tmp_path), clock, lambda: None)


def test_a_job_ends_as_never_started_when_its_start_is_prevented(job: Job, endings: Endings) -> None:
    change = endings.change(job, GONE)
    assert change is not None
    assert (change.status, change.fields["exit"]["reason"]) == (Status.ERROR, "never started")
    assert is_prevented(Path(job.dir or ""))


@pytest.mark.parametrize("marker", ["execd-start-1 attempt=1 pid=7 host=n1 end\n", ""])
def test_a_job_that_started_in_that_very_moment_runs(job: Job, endings: Endings, marker: str) -> None:
    Path(job.dir or "", START_MARKER).write_text(marker)
    change = endings.change(job, GONE)
    assert change is not None
    assert (change.status, change.why) == (Status.RUNNING, "its command has started after all")


def test_what_is_not_known_ends_no_job(job: Job, endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_arguments: object, **_more: object) -> int:
        raise OSError(116, os.strerror(116))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", stale)
        assert endings.change(job, GONE) is None
    assert endings.change(job, GONE) is not None
