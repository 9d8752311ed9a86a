"""The Local system: what it tells of a job that ended by itself, and what it refuses."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from execution_engine.errors import ExecutionSystemError, NotSupported
from execution_engine.jobs.exit_record import find_exit_record
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Account, Context, Started
from execution_engine.systems.local import Local
from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.records import read
from tests.support.execution_systems import local
from tests.support.job_sites import JobSite, submitted, until

MEGABYTE = 1 << 20
BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    site = JobSite(tmp_path, local)
    yield site
    site.end()


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        ("exit 0", 0, Status.FINISHED),
        ("exit 1", 1, Status.ERROR),
        ("exit 99", 99, Status.ERROR),
        ("exit 100", 100, Status.ERROR),
        (["no-such-command-anywhere"], 127, Status.ERROR),
        (["/etc/passwd"], 126, Status.ERROR),
        ("kill -SEGV $$", 139, Status.ERROR),
        ("kill -KILL $$", 137, Status.ERROR),
    ],
)
def test_an_end_is_told_as_it_was(site: JobSite, command: str | list[str], code: int, status: Status) -> None:
    job = site.start(command)
    assert site.wait(job) is status
    record = site.record(job)
    assert record is not None
    assert record.code == code
    account = site.system.account(job, record)
    assert account is not None
    assert account.reason is None
    assert (account.code == 0) == (code == 0)


def test_a_job_runs_from_the_moment_of_its_submission(site: JobSite) -> None:
    job = site.job("read line <go")
    os.mkfifo(site.file(job, "go"))
    outcome = site.system.run(job)
    assert isinstance(outcome, Started)
    assert outcome.status is Status.RUNNING
    assert site.system.get_status(submitted(job, outcome)) is Status.RUNNING
    site.file(job, "go").write_text("now\n")
    assert site.wait(submitted(job, outcome)) is Status.FINISHED


def test_a_job_leads_a_session_and_a_group_of_its_own_and_is_named_by_pid_and_start_time(site: JobSite) -> None:
    job = site.start("echo $$ >pid; sleep 1000")
    identity = processes.Identity.parse(job.execution.job_no or "")
    assert identity is not None
    script, command = processes.find(identity), site.pid(job, "pid")
    assert script is not None
    assert (script.session, script.group) == (script.pid, script.pid)
    assert (command.session, command.group) == (script.pid, script.pid)


def test_a_job_ignores_no_signal_that_the_keeper_ignores(site: JobSite) -> None:
    job = site.start(["grep", "^SigIgn", "/proc/self/status"])
    site.wait(job)
    ignored = int(site.file(job, "stdout").read_text().split()[1], 16)
    assert not [number.name for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM) if ignored & 1 << number - 1]


def test_the_usage_tells_processor_time_peak_memory_and_wall_time(site: JobSite) -> None:
    job = site.start(["python3", "-c", f"block = b'x' * (100 << 20)\n{BUSY}\ntime.sleep(0.2)"])
    assert site.wait(job) is Status.FINISHED
    usage = _account(site, job).usage
    assert usage is not None
    assert usage.memory is not None
    assert 100 * MEGABYTE <= usage.memory < 150 * MEGABYTE
    assert usage.cpu is not None
    assert 0.3 <= usage.cpu < 1.5
    assert usage.wall is not None
    assert 0.5 <= usage.wall < 10
    assert usage.host


def test_the_processor_time_of_all_descendants_counts(site: JobSite) -> None:
    job = site.start(f"python3 -c '{BUSY}' & python3 -c '{BUSY}' & wait")
    site.wait(job)
    usage = _account(site, job).usage
    assert usage is not None
    assert usage.cpu is not None
    assert usage.cpu >= 0.6


def test_what_a_command_leaves_in_the_background_is_ended_and_does_not_delay_its_end(site: JobSite) -> None:
    job = site.start("sleep 1000 & echo $! >left; setsid sleep 1001 & sleep 0.1")
    left = site.pid(job, "left")
    assert site.wait(job) is Status.FINISHED
    until(lambda: not processes.is_alive(left.identity), "the end of the process in the background")
    until(lambda: not site.processes_of(job), "the end of the process in another session")


def test_two_hundred_jobs_at_once_all_end_each_with_its_own_code(site: JobSite) -> None:
    jobs = [site.job(["sh", "-c", f"exit {number % 100}"]) for number in range(200)]
    known = [submitted(job, outcome) for job, outcome in site.system.run_many(jobs) if isinstance(outcome, Started)]
    assert len({job.execution.job_no for job in known}) == 200
    until(lambda: set(site.system.get_statuses(known).values()) <= {Status.FINISHED, Status.ERROR})
    records = [site.record(job) for job in known]
    assert [record.code for record in records if record] == [number % 100 for number in range(200)]
    assert all(_account(site, job).usage for job in known)


@pytest.mark.parametrize(("slots", "words"), [(1, "1 slot"), (2, "2 slots")])
def test_a_job_that_needs_more_cores_than_there_are_is_refused_for_good(tmp_path: Path, slots: int, words: str) -> None:
    site = JobSite(tmp_path, lambda context: local(context, slots=slots))
    assert site.system.probe().message == words
    job = site.job(["true"], resources={"cores": 4})
    with pytest.raises(ExecutionSystemError, match=f"needs 4 cores, here has {words}$") as caught:
        site.system.run(job)
    assert not caught.value.transient
    assert site.alive() == []


def test_a_job_whose_directory_is_gone_is_refused_for_good(site: JobSite) -> None:
    job = site.job(["true"])
    shutil.rmtree(str(job.dir))
    with pytest.raises(ExecutionSystemError, match="No such file or directory") as caught:
        site.system.run(job)
    assert not caught.value.transient


def test_a_job_that_was_not_built_is_refused(site: JobSite) -> None:
    job = site.job(["true"]).model_copy(update={"dir": None})
    with pytest.raises(ExecutionSystemError, match="no directory yet"):
        site.system.run(job)


def test_a_run_directory_that_cannot_be_used_is_an_outage_and_starts_nothing(site: JobSite) -> None:
    job = site.job("echo run >>runs")
    site.run_dir.rmdir()
    with pytest.raises(ExecutionSystemError) as caught:
        site.system.run(job)
    assert caught.value.transient
    assert not site.system.probe().ok
    assert not site.file(job, "runs").exists()


def test_a_job_may_remove_its_own_directory(site: JobSite) -> None:
    job = site.start('rm -rf "$EXECD_JOB_DIR"; sleep 0.2')
    site.wait_gone(job)
    assert site.system.get_status(job) is Status.FINISHED
    record, account = find_exit_record(Path(job.dir or ""), job.attempt), site.system.account(job, None)
    assert record is not None
    assert account is not None
    assert (record.code, account.reason, account.code) == (0, None, 0)


def test_a_job_that_removes_its_directory_cannot_hide_why_it_was_ended(site: JobSite) -> None:
    job = site.start('rm -rf "$EXECD_JOB_DIR"; exec sleep 60', resources={"walltime": "600ms"})
    assert site.wait(job, Status.ERROR) is Status.ERROR
    account = site.system.account(job, None)
    assert account is not None
    assert account.reason == "walltime"


@pytest.mark.parametrize(
    "instead", ["mkdir process", "mkfifo process", "ln -s /dev/null process", "echo x >process; chmod 0 process"]
)
def test_a_job_that_breaks_the_files_of_the_engine_harms_nobody(site: JobSite, instead: str) -> None:
    job, other = site.start(f"rm -rf .execd; mkdir .execd; cd .execd; {instead}; sleep 0.1"), site.start("sleep 0.2")
    assert site.wait(other) is Status.FINISHED
    site.wait_gone(job)
    assert site.wait(site.start(["true"])) is Status.FINISHED


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", '{"usage": {"attempt": 1}}\n', '{"process": {"pid": "x"}}\n', "\xff\n"])
def test_a_record_that_is_none_is_passed_over(site: JobSite, content: str) -> None:
    job = site.job(["true"])
    site.file(job, ".execd/process").write_text(content, encoding="latin-1")
    assert site.system.find(job) is None
    assert site.wait(site.run(job)) is Status.FINISHED


def test_half_a_record_counts_as_none(site: JobSite) -> None:
    job = site.start(["true"])
    site.wait(job)
    path = site.file(job, ".execd/process")
    path.write_bytes(path.read_bytes()[:-1])
    assert read(str(job.dir), 1).usage is None


def test_an_earlier_attempt_is_not_taken_for_this_one(site: JobSite) -> None:
    job = site.start(["false"])
    site.wait(job)
    second = job.model_copy(update={"attempt": 2, "execution": job.execution.model_copy(update={"job_no": None})})
    assert site.system.find(second) is None
    assert site.system.account(second, None) is None
    assert site.system.find(job) == job.execution.job_no


def test_hold_and_release_say_what_to_do_instead(site: JobSite) -> None:
    job = site.job(["true"])
    with pytest.raises(NotSupported, match="use suspend"):
        site.system.hold(job)
    with pytest.raises(NotSupported, match="use resume"):
        site.system.release(job)


def test_a_probe_starts_no_keeper(site: JobSite) -> None:
    assert site.system.probe().ok
    assert site.alive() == []


def test_slots_are_the_usable_processors_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    context = Context("here", tmp_path)
    assert local(context, slots="auto").slots() == len(os.sched_getaffinity(0))
    assert local(context, slots=7).slots() == 7
    for bad in (0, -1, "many", True, 1.5):
        with pytest.raises(ValidationError, match="slots"):
            Local.Options.model_validate({"slots": bad})


def _account(site: JobSite, job: object) -> Account:
    account = site.system.account(job, site.record(job))  # type: ignore[arg-type]
    assert account is not None
    return account


def test_a_job_whose_resumption_was_cut_short_is_suspended_still_and_can_be_resumed(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.start("while [ ! -e stop ]; do echo x >>beats; sleep 0.01; done")
    site.wait_file(job, "beats")
    site.system.suspend(job)
    send = processes.send

    def send_one_and_die(process: processes.Process, number: signal.Signals) -> bool:
        send(process, number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(processes, "send", send_one_and_die)
        with pytest.raises(KeyboardInterrupt):
            site.system.resume(job)
    assert site.system.get_status(job) is Status.SUSPENDED
    site.system.resume(job)
    assert site.system.get_status(job) is Status.RUNNING
    site.file(job, "stop").touch()
    site.wait_gone(job)
