"""What the engine relies on in every execution system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_engine.errors import NotSupported
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.systems.execution_systems import Started
from execution_engine.systems.local_keeper import processes
from tests.support.execution_systems import SYSTEMS
from tests.support.gridengine import gridengine_site
from tests.support.job_sites import JobSite, submitted, until
from tests.support.torque_server import torque_site

GONE = FINAL | {Status.UNKNOWN}
BUSY = ON_SYSTEM - {Status.UNKNOWN}
WAIT_FOR_EVER = "echo $$ >pid; sleep 1000"


@pytest.fixture(params=[*SYSTEMS, pytest.param("OGS", marks=pytest.mark.gridengine), "Torque"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobSite]:
    if request.param == "OGS":
        yield from gridengine_site(request.getfixturevalue("gridengine"), tmp_path)
        return
    if request.param == "Torque":
        yield from torque_site(request.getfixturevalue("torque").options, tmp_path)
        return
    site = JobSite(tmp_path, SYSTEMS[request.param])
    yield site
    site.end()


def test_it_answers(site: JobSite) -> None:
    assert site.system.probe().ok
    slots = site.system.slots()
    assert slots is None or slots >= 1


def test_every_job_gets_a_native_id_of_its_own(site: JobSite) -> None:
    jobs = [site.start(WAIT_FOR_EVER) for _ in range(3)]
    ids = {job.execution.job_no for job in jobs}
    assert len(ids) == 3
    assert all(ids)


def test_a_job_is_there_until_it_ends_and_its_record_is_complete_then(site: JobSite) -> None:
    job = site.start("echo begun >begun; while [ ! -e go ]; do sleep 0.01; done; echo done; exit 3")
    site.wait_file(job, "begun")
    assert site.system.get_status(job) in BUSY
    site.file(job, "go").touch()
    site.wait_gone(job)
    record = site.record(job)
    assert record is not None
    assert (record.code, record.attempt) == (3, 1)
    assert site.file(job, "stdout").read_text() == "done\n"


def test_success_and_failure_are_not_confused(site: JobSite) -> None:
    good, bad = site.start(["true"]), site.start(["false"])
    for job in (good, bad):
        site.wait_gone(job)
    assert site.system.get_status(good) in {Status.FINISHED, Status.UNKNOWN}
    assert site.system.get_status(bad) in {Status.ERROR, Status.UNKNOWN}
    account = site.system.account(good, site.record(good))
    assert account is None or (account.reason is None and account.code in (0, None))


def test_the_command_of_a_job_that_is_submitted_twice_runs_once(site: JobSite) -> None:
    job = site.start("echo run >>runs; sleep 0.2")
    site.wait_file(job, "runs")
    again = submitted(job, site.another_actor().run(job))
    site.wait_gone(job)
    site.wait_gone(again)
    once_more = submitted(job, site.another_actor().run(job))
    site.wait_gone(once_more)
    assert site.file(job, "runs").read_text() == "run\n"


def test_many_jobs_are_started_and_asked_about_at_once(site: JobSite) -> None:
    jobs = [site.job(["sh", "-c", f"exit {number}"]) for number in range(20)]
    outcomes = list(site.system.run_many(jobs))
    assert [job.text_id for job, _ in outcomes] == [job.text_id for job in jobs]
    known = [submitted(job, outcome) for job, outcome in outcomes if isinstance(outcome, str | Started)]
    assert len({job.execution.job_no for job in known}) == 20
    until(lambda: set(site.system.get_statuses(known).values()) <= GONE)
    assert set(site.system.get_statuses(known)) == {job.text_id for job in known}
    assert [record.code for job in known if (record := site.record(job))] == list(range(20))


def test_one_bad_job_does_not_keep_the_others_from_running(site: JobSite) -> None:
    good, bad, last = (site.job(["true"]) for _ in range(3))
    site.file(bad, ".execd/job_script").unlink()
    outcomes = {job.text_id: outcome for job, outcome in site.system.run_many([good, bad, last])}
    assert set(outcomes) == {good.text_id, bad.text_id, last.text_id}
    for job in (good, last):
        outcome = outcomes[job.text_id]
        assert isinstance(outcome, str | Started)
        site.wait_gone(submitted(job, outcome))
        assert site.record(job) is not None


def test_a_kill_ends_the_command_and_all_that_it_started(site: JobSite) -> None:
    job = site.start("sleep 1001 & echo $! >child; (sleep 1002 & echo $! >grandchild; wait) & wait")
    members = [site.pid(job, name) for name in ("child", "grandchild")]
    site.system.kill(job)
    site.wait_gone(job)
    assert not [process for process in members if processes.is_alive(process.identity)]


def test_a_kill_of_a_job_that_is_gone_is_no_error(site: JobSite) -> None:
    job = site.start(["true"])
    site.wait_gone(job)
    before = site.system.get_status(job)
    site.system.kill(job)
    site.system.kill(job)
    assert site.system.get_status(job) == before


def test_a_second_kill_is_no_error(site: JobSite) -> None:
    job = site.start(WAIT_FOR_EVER)
    site.wait_file(job, "pid")
    site.system.kill(job)
    site.system.kill(job)
    site.wait_gone(job)


def test_a_kill_right_after_the_start_is_not_lost(site: JobSite) -> None:
    job = site.start(WAIT_FOR_EVER)
    site.system.kill(job)
    site.wait_gone(job)
    assert not site.processes_of(job)


def test_a_kill_touches_no_other_job(site: JobSite) -> None:
    victim, other = site.start(WAIT_FOR_EVER), site.start(WAIT_FOR_EVER)
    bystander = site.pid(other, "pid")
    site.system.kill(victim)
    site.wait_gone(victim)
    assert site.system.get_status(other) in BUSY
    assert processes.is_alive(bystander.identity)


def test_a_job_that_was_never_submitted_is_unknown(site: JobSite) -> None:
    job = submitted(site.job(["true"]), "4194000")
    assert site.system.get_status(job) is Status.UNKNOWN
    site.system.kill(job)
    assert site.system.find(site.job(["true"])) is None


def test_another_actor_sees_and_ends_the_jobs_of_the_first(site: JobSite) -> None:
    job = site.start(WAIT_FOR_EVER)
    site.wait_file(job, "pid")
    site.system.close()
    other = site.another_actor()
    assert other.get_status(job) in BUSY
    assert other.find(job) in (None, job.execution.job_no)
    other.kill(job)
    until(lambda: other.get_status(job) in GONE)


def test_a_job_sees_only_the_environment_that_the_configuration_passes_on(site: JobSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECD_SECRET_OF_THE_ENGINE", "1")
    job = site.start("env", env={"GREETING": "good day"})
    site.wait_gone(job)
    seen = dict(line.split("=", 1) for line in site.file(job, "stdout").read_text().splitlines())
    assert seen["GREETING"] == "good day"
    assert seen["EXECD_JOB_DIR"] == job.dir
    assert "EXECD_SECRET_OF_THE_ENGINE" not in seen


def test_suspending_stops_the_job_and_resuming_lets_it_go_on_or_both_are_refused(site: JobSite) -> None:
    job = site.start("while [ ! -e stop ]; do echo x >>beats; sleep 0.01; done")
    site.wait_file(job, "beats")
    try:
        site.system.suspend(job)
    except NotSupported:
        with pytest.raises(NotSupported, match=job.label):
            site.system.resume(job)
        return
    site.wait(job, Status.SUSPENDED)
    beats = site.file(job, "beats").stat().st_size
    assert not _grows(site, job, beats, seconds=0.2)
    site.system.resume(job)
    site.wait(job, Status.RUNNING)
    until(lambda: _grows(site, job, beats))
    site.file(job, "stop").touch()
    site.wait_gone(job)
    record = site.record(job)
    assert record is not None
    assert record.code == 0


def _grows(site: JobSite, job: Job, size: int, seconds: float = 5.0) -> bool:
    try:
        until(lambda: site.file(job, "beats").stat().st_size > size, timeout=seconds)
    except AssertionError:
        return False
    return True
