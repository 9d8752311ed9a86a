"""How the Local system ends jobs: on request, for their walltime, for their memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Account
from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.client import KeeperClient
from tests.support.execution_systems import local
from tests.support.job_sites import JobSite, until

IGNORES_TERM = "trap '' TERM; echo $$ >pid; while :; do sleep 0.05; done"
ALLOCATE = """
import os, sys, time
block = b"x" * (int(sys.argv[1]) << 20)
print(os.getpid(), file=open("allocated", "w"))
time.sleep(1000)
"""
COUNT_SIGNALS = """
import signal, sys, time
def note(number, _frame):
    print(signal.Signals(number).name, file=signals, flush=True)
signals = open("signals", "w")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, note)
print("ready", file=open("ready", "w"))
while not signals.tell():
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(5)
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    site = JobSite(tmp_path, local)
    yield site
    site.end()


@pytest.fixture
def hasty_site(tmp_path: Path) -> Iterator[JobSite]:
    """A job has 0.3 s between SIGTERM and SIGKILL here."""
    site = JobSite(tmp_path, local, kill_delay=0.3)
    yield site
    site.end()


def test_a_killed_command_gets_the_signal_once_and_the_end_is_recorded(site: JobSite) -> None:
    job = site.start(["python3", "-c", COUNT_SIGNALS])
    site.wait_file(job, "ready")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert site.file(job, "signals").read_text() == "SIGTERM\n"
    record = site.record(job)
    assert record is not None
    assert record.code == 5
    assert _account(site, job).reason == "killed"


def test_the_signal_that_ended_a_killed_command_is_recorded(site: JobSite) -> None:
    job = site.start("echo ready >ready; exec sleep 1000")
    site.wait_file(job, "ready")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    record = site.record(job)
    assert record is not None
    assert record.signal == "SIGTERM"


def test_a_command_that_ignores_the_request_is_killed_and_its_end_recorded(hasty_site: JobSite) -> None:
    site = hasty_site
    job = site.start(IGNORES_TERM)
    command = site.pid(job, "pid")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert not processes.is_alive(command.identity)
    record = site.record(job)
    assert record is not None
    assert record.signal == "SIGKILL"
    assert _account(site, job).reason == "killed"


def test_a_job_counts_as_running_until_nothing_of_it_is_left(hasty_site: JobSite) -> None:
    site = hasty_site
    job = site.start(f"({IGNORES_TERM}) & echo ready >ready; wait")
    stubborn = site.pid(job, "pid")
    site.system.kill(job)
    until(lambda: site.record(job), "the end of the command")
    while site.system.get_status(job) is Status.RUNNING:
        time.sleep(0.01)
    assert not processes.is_alive(stubborn.identity)
    assert site.wait(job) is Status.KILLED


def test_a_process_that_escaped_to_a_session_of_its_own_is_killed_too(site: JobSite) -> None:
    job = site.start(
        "setsid sh -c 'echo $$ >escaped; exec sleep 1000' & setsid --fork sh -c 'echo $$ >orphan; exec sleep 1001'; wait"
    )
    escaped = [site.pid(job, name) for name in ("escaped", "orphan")]
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert not [process for process in escaped if processes.is_alive(process.identity)]


def test_a_process_that_leaves_while_its_job_ends_is_ended_with_it(site: JobSite) -> None:
    jobs = [site.start(["sh", "-c", "(setsid sh -c '(sleep 557 &)' &) ; echo"]) for _ in range(40)]
    for job in jobs:
        assert site.wait(job) is Status.FINISHED
    held = KeeperClient(site.run_dir, "here")
    until(lambda: not any(held.ask("holds", [(job.dir, job.attempt) for job in jobs])), "the keeper is done with them")
    assert [process for job in jobs for process in site.processes_of(job)] == []


def test_a_process_that_hides_by_clearing_its_environment_is_killed_with_its_parent(hasty_site: JobSite) -> None:
    site = hasty_site
    job = site.start("env -i setsid /bin/sh -c 'trap \"\" TERM; echo $$ >hidden; while :; do /bin/sleep 0.1; done' & wait")
    hidden = site.pid(job, "hidden")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert not processes.is_alive(hidden.identity)


def test_a_job_that_forks_without_end_is_ended(hasty_site: JobSite) -> None:
    site = hasty_site
    job = site.start("trap '' TERM; echo ready >ready; while :; do (trap '' TERM; sleep 0.3) & sleep 0.02; done")
    site.wait_file(job, "ready")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert not site.processes_of(job)


def test_a_job_that_is_killed_before_its_script_begins_ends_cleanly(site: JobSite) -> None:
    for _ in range(5):
        job = site.start("sleep 1000")
        site.system.kill(job)
        assert site.wait(job, timeout=3) is Status.KILLED
        assert not site.processes_of(job)


def test_a_job_that_exceeds_its_walltime_is_ended_with_that_reason(site: JobSite) -> None:
    begun = time.monotonic()
    job = site.start("sleep 1000", resources={"walltime": "500ms"})
    assert site.wait(job) is Status.ERROR
    assert 0.5 <= time.monotonic() - begun < 3
    account = _account(site, job)
    assert account.reason == "walltime"
    assert account.message.endswith("0.5s were allowed")


def test_a_command_that_ends_well_on_the_request_has_exceeded_its_walltime_all_the_same(site: JobSite) -> None:
    job = site.start("trap 'exit 0' TERM; while :; do sleep 0.01; done", resources={"walltime": "500ms"})
    assert site.wait(job) is Status.ERROR
    assert _account(site, job).reason == "walltime"


def test_the_time_in_which_a_job_is_suspended_counts(site: JobSite) -> None:
    job = site.start("echo ready >ready; sleep 1000", resources={"walltime": "700ms"})
    site.wait_file(job, "ready")
    site.system.suspend(job)
    assert site.wait(job) is Status.ERROR
    assert _account(site, job).reason == "walltime"


def test_the_first_reason_is_kept(hasty_site: JobSite) -> None:
    site = hasty_site
    job = site.start("trap 'echo x >term' TERM; while :; do sleep 0.01; done", resources={"walltime": "400ms"})
    site.wait_file(job, "term")
    site.system.kill(job)
    site.wait(job)
    assert _account(site, job).reason == "walltime"


def test_a_job_that_allocates_more_than_its_memory_is_ended_with_that_reason(site: JobSite) -> None:
    job = site.start(["python3", "-c", ALLOCATE, "120"], resources={"memory": "60M"})
    assert site.wait(job) is Status.ERROR
    account = _account(site, job)
    assert account.reason == "memory"
    assert account.message.endswith("60M were allowed")
    assert account.usage is not None
    assert (account.usage.memory or 0) > 60 << 20


def test_the_memory_of_all_processes_of_a_job_counts_together(site: JobSite) -> None:
    two = f"python3 -c '{ALLOCATE}' 50 & python3 -c '{ALLOCATE}' 50 & wait"
    job = site.start(two, resources={"memory": "80M"})
    assert site.wait(job) is Status.ERROR
    account = _account(site, job)
    assert account.reason == "memory"
    assert account.usage is not None
    assert (account.usage.memory or 0) > 80 << 20


def test_memory_that_processes_share_counts_once(site: JobSite) -> None:
    fork = 'import os, time\nblock = b"x" * (50 << 20)\nfor _ in range(4): os.fork()\ntime.sleep(1.2)'
    job = site.start(["python3", "-c", fork], resources={"memory": "250M"})
    assert site.wait(job) is Status.FINISHED


def test_a_job_below_its_limits_is_left_alone(site: JobSite) -> None:
    job = site.start(["python3", "-c", "import time; time.sleep(0.6)"], resources={"memory": "500M", "walltime": "1h"})
    assert site.wait(job) is Status.FINISHED
    assert _account(site, job).reason is None


def test_a_suspended_job_with_all_its_processes_stands_still_and_can_be_killed(site: JobSite) -> None:
    job = site.start("setsid sh -c 'echo $$ >escaped; exec sleep 1000' & sleep 1001")
    escaped = site.pid(job, "escaped")
    site.system.suspend(job)
    assert site.system.get_status(job) is Status.SUSPENDED
    assert all(process.stopped for process in site.processes_of(job))
    site.system.kill(job)
    assert site.wait(job, timeout=4) is Status.KILLED
    assert not processes.is_alive(escaped.identity)


def test_a_shell_that_waits_in_the_kernel_for_a_stopped_child_is_suspended_all_the_same(site: JobSite) -> None:
    """A child by vfork that is stopped before it is a program keeps its parent from hearing anything."""
    job = site.start("echo $$ >pid; while :; do /bin/true; done")
    shell = site.pid(job, "pid")
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")

    def is_deaf() -> bool:
        looks = []
        for pid in map(int, children.read_text().split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                looks = [processes.read(shell.pid) for _ in range(200)]
                if not all(look and look.state == "D" for look in looks):
                    os.kill(pid, signal.SIGCONT)
        return bool(looks) and all(look and look.state == "D" for look in looks)

    if not _becomes_true(is_deaf):
        pytest.skip("/bin/sh does not start programs by vfork here")
    site.system.suspend(job)
    assert all(process.stopped for process in site.processes_of(job))


def _becomes_true(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if holds():
            return True
    return False


def test_a_job_that_has_ended_can_be_neither_suspended_nor_resumed(site: JobSite) -> None:
    job = site.start(["true"])
    site.wait(job)
    for ask in (site.system.suspend, site.system.resume):
        with pytest.raises(ExecutionSystemError, match="no process any more"):
            ask(job)


def _account(site: JobSite, job: Job) -> Account:
    account = site.system.account(job, site.record(job))
    assert account is not None
    return account
