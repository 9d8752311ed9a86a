"""The keeper of a Local system: detached, alone, small, found again after its death, and never mistaken about a process."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from execution_engine.building import build
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import JOB_SCRIPT
from execution_engine.jobs.job import Job, Requested
from execution_engine.jobs.status import Status
from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.client import KeeperClient
from execution_engine.systems.local_keeper.processes import Identity, Process
from execution_engine.systems.local_keeper.records import Order, ProcessRecord, append, read
from tests.support.execution_systems import local
from tests.support.job_sites import PATH, JobSite, submitted, until

WAIT = "echo $$ >pid; while [ ! -e go ]; do sleep 0.02; done; exit 4"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    site = JobSite(tmp_path, local, kill_delay=1.0)
    yield site
    site.end()


@pytest.fixture
def bystander() -> Iterator[Process]:
    """A process that is nobody's job, and leads a session as a job does."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        process = processes.read(child.pid)
        assert process is not None
        yield process
        child.kill()


# --- one of its kind, and modest


def test_it_is_detached_from_the_process_that_needed_it(site: JobSite) -> None:
    keeper = _keeper(site, site.start(WAIT))
    assert keeper.session != os.getsid(0)
    assert keeper.parent != os.getpid()
    own = Path(f"/proc/{keeper.pid}")
    assert (own / "cwd").readlink() == Path("/")
    assert (own / "cmdline").read_bytes().startswith(b"execd: local here")
    files = {link.readlink() for link in (own / "fd").iterdir()}
    assert {path.name for path in files if site.root in path.parents} == {"run", "local-here.2.lock", "local-here.2.log"}


def test_nobody_else_can_talk_to_it(site: JobSite) -> None:
    site.start(["true"])
    assert stat.S_IMODE((site.run_dir / "local-here.2.sock").stat().st_mode) == 0o600


def test_many_that_need_it_at_once_start_one(site: JobSite) -> None:
    def ask(_number: int) -> list[bool]:
        return KeeperClient(site.run_dir, "here").ask("watch", [])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == [[]] * 6
    until(lambda: len(site.alive()) == 1, "one keeper alone")


def test_a_run_directory_with_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    run_dir = tmp_path / ("d" * 120)
    run_dir.mkdir()
    assert KeeperClient(run_dir, "here", idle=0.1).ask("watch", []) == []
    until(lambda: not (run_dir / "local-here.2.sock").exists(), "the end of the keeper")


def test_it_sleeps_while_nothing_happens_and_is_small(site: JobSite) -> None:
    job = site.start(WAIT, resources={"walltime": "1h"})
    site.wait_file(job, "pid")
    keeper = _keeper(site, job)
    until(lambda: not _is_woken_within(keeper, 0.1), "the end of what the start of the job brings")
    before = _wakeups(keeper)
    time.sleep(0.6)
    assert _wakeups(keeper) == before
    assert processes.shared_memory([keeper]) < 12 << 20


def test_it_ends_when_it_has_nothing_to_do_and_not_before(site: JobSite) -> None:
    job = site.job("sleep 0.6; touch done")
    client = KeeperClient(site.run_dir, "here", idle=0.1)
    ((outcome),) = client.ask("run", [Order(str(job.dir), 1, 0, 0, 1)], environment={"PATH": PATH}, slots=8, until=float("inf"))
    assert Identity.parse(outcome["id"])
    until(lambda: not site.alive(), "the end of the keeper")
    assert site.file(job, "done").exists()
    assert read(str(job.dir), 1).usage is not None
    assert not (site.run_dir / "local-here.2.sock").exists()


def test_it_wakes_the_monitor_when_a_job_has_ended(site: JobSite) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as monitor:
        monitor.bind(str(site.run_dir / "wake"))
        monitor.settimeout(10)
        job = site.start(["true"])
        assert json.loads(monitor.recv(1000)) == {"system": "here"}
        assert site.system.get_status(job) is Status.FINISHED


def test_a_bad_request_is_refused_and_half_a_one_ignored(site: JobSite) -> None:
    client = KeeperClient(site.run_dir, "here")
    for op, jobs in (("dance", []), ("run", [["/nowhere"]]), ("kill", [1])):
        with pytest.raises(ValueError, match="refused: bad request"):
            client.ask(op, jobs, environment={}, slots=8, until=float("inf"))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(site.run_dir / "local-here.2.sock"))
        connection.sendall(b'{"op": "run", "jobs": [')
    assert client.ask("watch", []) == []
    assert len(site.alive()) == 1


def test_a_keeper_that_does_not_start_is_an_outage(site: JobSite) -> None:
    (site.run_dir / "local-here.2.lock").mkdir()
    with pytest.raises(ExecutionSystemError, match="does not start; see") as caught:
        site.start(["true"])
    assert caught.value.transient
    assert "Is a directory" in (site.run_dir / "local-here.2.log").read_text()


# --- found, whatever becomes of its files


def _replace(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize(
    ("names", "take"),
    [(["sock"], Path.unlink), (["lock"], Path.unlink), (["lock", "sock"], Path.unlink), (["sock"], _replace)],
    ids=["socket", "lock", "both", "replaced"],
)
def test_it_is_found_again_when_its_socket_or_its_lock_was_taken_away(
    site: JobSite, names: list[str], take: Callable[[Path], None]
) -> None:
    job = site.start(WAIT)
    keeper = _keeper(site, job)
    files = [site.run_dir / f"local-here.2.{name}" for name in names]
    before = {file: file.stat().st_ino for file in files}
    kept = [file.open() for file in files if file.suffix == ".lock"]  # so that its number is not used again at once
    for file in files:
        take(file)
    until(lambda: all(file.exists() and file.stat().st_ino != before[file] for file in files), "lock and socket anew")
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert [process.pid for process in site.alive()] == [keeper.pid], "no other keeper"
    assert "was taken away: made anew" in (site.run_dir / "local-here.2.log").read_text()
    for file in kept:
        file.close()


def test_a_keeper_whose_place_another_one_took_leaves_it_to_that_one(site: JobSite) -> None:
    job = site.start(WAIT)
    first = _keeper(site, job)
    os.kill(first.pid, signal.SIGSTOP)
    for name in ("lock", "sock"):
        (site.run_dir / f"local-here.2.{name}").unlink()
    second = _keeper(site, site.start(WAIT))
    assert second.identity != first.identity
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: "another keeper has the lock" in (site.run_dir / "local-here.2.log").read_text(), "the first one sees it")
    other = site.start(WAIT)
    assert _keeper(site, other).identity == second.identity
    site.file(job, "go").touch()
    site.wait(job)
    assert read(str(job.dir), 1).usage is not None


def test_a_keeper_that_nobody_can_find_is_said_to_be_so(site: JobSite) -> None:
    job = site.start(WAIT)
    keeper = _keeper(site, job)
    assert site.system.probe().ok
    os.kill(keeper.pid, signal.SIGSTOP)
    (site.run_dir / "local-here.2.sock").unlink()
    health = site.system.probe()
    assert not health.ok
    assert "its socket local-here.2.sock is gone" in health.message
    with pytest.raises(ExecutionSystemError, match=r"its socket local-here\.2\.sock is gone") as caught:
        site.another_actor().get_statuses([job])
    assert caught.value.transient
    os.kill(keeper.pid, signal.SIGCONT)
    until(lambda: site.system.probe().ok, "it is found again")


@pytest.mark.parametrize("known_before", [True, False])
def test_connections_without_end_cost_it_nothing_but_some_patience(site: JobSite, known_before: bool) -> None:
    """Whether it knows its limit on open files or meets it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if known_before:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
        job = site.start(WAIT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    keeper = _keeper(site, job)
    resource.prlimit(keeper.pid, resource.RLIMIT_NOFILE, (100, limits[1]))
    path = str(site.run_dir / "local-here.2.sock")
    with ExitStack() as crowd:
        for _ in range(110):
            one = crowd.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            until(lambda one=one: one.connect_ex(path) == 0, "a place at its door")  # type: ignore[misc]
        site.file(job, "go").touch()
        assert site.wait(job) is Status.ERROR
    other = site.start("exit 3")
    assert site.wait(other) is Status.ERROR
    assert _keeper(site, other).identity == keeper.identity


# --- its death


def test_jobs_outlive_it_and_are_found_again_by_the_next(site: JobSite) -> None:
    jobs = [site.start(WAIT) for _ in range(3)]
    dead = _kill_keeper(site, jobs[0])
    assert set(site.system.get_statuses(jobs).values()) == {Status.RUNNING}
    keeper = _keeper(site, jobs[2])
    assert keeper.identity != dead
    assert {str(keeper.identity)} == {record.keeper for job in jobs if (record := read(str(job.dir), 1).process)}
    for job in jobs:
        site.file(job, "go").touch()
        assert site.wait(job) is Status.ERROR
        ended, account = site.record(job), site.system.account(job, None)
        assert ended is not None
        assert ended.code == 4
        assert account is not None
        assert (account.reason, account.code) == (None, None)


def test_the_next_takes_an_adopted_job_that_ends_well_for_finished(site: JobSite) -> None:
    job = site.start("echo $$ >pid; while [ ! -e go ]; do sleep 0.02; done")
    site.wait_file(job, "pid")
    _kill_keeper(site, job)
    assert site.system.get_status(job) is Status.RUNNING
    site.file(job, "go").touch()
    assert site.wait(job) is Status.FINISHED


def test_a_job_that_ended_without_a_keeper_is_unknown_and_its_record_decides(site: JobSite) -> None:
    job = site.start(WAIT)
    site.wait_file(job, "pid")
    _kill_keeper(site, job)
    site.file(job, "go").touch()
    until(lambda: site.record(job), "the exit record")
    site.wait(job, Status.UNKNOWN)
    site.system.kill(job)
    assert site.system.account(job, None) is None


def test_the_next_enforces_the_limits_of_the_jobs_that_it_adopts(site: JobSite) -> None:
    job = site.start(WAIT, resources={"walltime": "900ms"})
    site.wait_file(job, "pid")
    _kill_keeper(site, job)
    assert site.system.get_status(job) is Status.RUNNING
    assert site.wait(job) is Status.ERROR
    account = site.system.account(job, None)
    assert account is not None
    assert account.reason == "walltime"


def test_the_next_ends_jobs_of_the_one_before_with_what_escaped_from_them(site: JobSite) -> None:
    job = site.start(f"setsid --fork sh -c 'echo $$ >escaped; exec sleep 1000'; {WAIT}")
    command, escaped = site.pid(job, "pid"), site.pid(job, "escaped")
    _kill_keeper(site, job)
    site.system.kill(job)
    assert site.wait(job) is Status.KILLED
    assert not [process for process in (command, escaped) if processes.is_alive(process.identity)]


def test_the_next_ends_jobs_that_the_one_before_was_asked_to_end_and_did_not_live_to(site: JobSite) -> None:
    job = site.start("trap '' TERM; echo yes >started; while :; do sleep 0.02; done")
    site.wait_file(job, "started")
    site.system.kill(job)
    _kill_keeper(site, job)
    asked = Requested(what="kill", at=datetime.now(UTC), sent=True)
    assert site.wait(job.model_copy(update={"requested": asked}), Status.KILLED) is Status.KILLED


def test_what_is_left_of_a_job_whose_script_and_keeper_died_can_be_killed(site: JobSite) -> None:
    job = site.start(WAIT)
    command = site.pid(job, "pid")
    _kill_keeper(site, job)
    identity = Identity.parse(job.execution.job_no or "")
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    until(lambda: not processes.is_alive(identity))
    assert processes.is_alive(command.identity)
    site.system.kill(job)
    site.wait_gone(job)
    until(lambda: not processes.is_alive(command.identity), "the end of the command")


def test_a_job_is_not_started_again_by_the_next(site: JobSite) -> None:
    job = site.start("echo run >>runs; sleep 1000")
    site.wait_file(job, "runs")
    _kill_keeper(site, job)
    assert site.another_actor().find(job) == job.execution.job_no
    assert _ask_to_run(site, job) == job.execution.job_no
    assert site.file(job, "runs").read_text() == "run\n"
    assert _keeper(site, job).alive


def test_a_script_that_a_keeper_started_and_did_not_live_to_write_down_is_the_job_for_the_next(site: JobSite) -> None:
    job = site.job("echo run >>runs; while [ ! -e go ]; do sleep 0.02; done; exit 4")
    with _unwritten(job) as unwritten:
        native = _ask_to_run(site, job)
        assert int(native.partition(".")[0]) == unwritten.pid
        job = submitted(job, native)
        site.wait_file(job, "runs")
        assert site.system.get_status(job) is Status.RUNNING
        site.file(job, "go").touch()
    site.wait_gone(job)
    record = site.record(job)
    assert record is not None
    assert record.code == 4
    assert site.file(job, "runs").read_text() == "run\n"


def test_a_script_of_an_earlier_attempt_that_runs_on_is_not_taken_for_the_next(site: JobSite) -> None:
    first = site.job("echo $EXECD_ATTEMPT >>runs; while [ ! -e go ]; do sleep 0.02; done")
    with _unwritten(first) as unwritten:
        site.wait_file(first, "runs")
        second = first.model_copy(update={"attempt": 2})
        build(second, site.config)
        native = _ask_to_run(site, second)
        assert int(native.partition(".")[0]) != unwritten.pid
        assert site.wait_file(second, "runs") == "2"
        site.file(second, ".execd/attempt-1/go").touch()
    site.file(second, "go").touch()
    site.wait_gone(submitted(second, native))


# --- never mistaken


def test_a_process_that_has_the_pid_by_chance_is_neither_taken_for_the_job_nor_touched(site: JobSite, bystander: Process) -> None:
    job = site.job(WAIT)
    wrong = Identity(bystander.pid, bystander.start - 1)
    append(str(job.dir), ProcessRecord(*wrong, processes.boot_id(), 1, keeper=""))
    assert site.system.get_status(job) is Status.UNKNOWN
    assert site.system.find(job) is None
    _try_to_end(site, job)
    assert processes.is_alive(bystander.identity)


def test_a_process_of_another_boot_of_the_machine_is_neither_taken_for_the_job_nor_touched(
    site: JobSite, bystander: Process
) -> None:
    job = site.job(WAIT)
    append(str(job.dir), ProcessRecord(*bystander.identity, "an-earlier-boot", 1, keeper=""))
    assert site.system.get_status(job) is Status.UNKNOWN
    assert site.system.find(job) is None
    site.system.kill(job)
    assert processes.is_alive(bystander.identity)


def test_the_native_id_counts_more_than_what_a_job_writes_into_its_directory(site: JobSite, bystander: Process) -> None:
    job = site.start(WAIT)
    command = site.pid(job, "pid")
    append(str(job.dir), ProcessRecord(*bystander.identity, processes.boot_id(), 1, keeper=""))
    assert site.system.get_status(job) is Status.RUNNING
    site.system.kill(job)
    until(lambda: not processes.is_alive(command.identity), "the end of the command")
    assert processes.is_alive(bystander.identity)


def test_a_job_that_removed_the_engines_files_is_still_found_and_killed(site: JobSite) -> None:
    job = site.start(f"rm -rf .execd; {WAIT}")
    command = site.pid(job, "pid")
    assert site.system.get_status(job) is Status.RUNNING
    site.system.kill(job)
    site.wait_gone(job)
    assert not processes.is_alive(command.identity)


def _try_to_end(site: JobSite, job: Job) -> None:
    site.system.kill(job)
    with pytest.raises(ExecutionSystemError, match="no process any more"):
        site.system.suspend(job)
    time.sleep(1.2)  # longer than the kill_delay of this site


def _ask_to_run(site: JobSite, job: Job) -> str:
    """The native id that the keeper gives."""
    order = Order(str(job.dir), job.attempt, 0, 0, 1)
    (outcome,) = KeeperClient(site.run_dir, "here").ask("run", [order], environment={"PATH": PATH}, slots=8, until=float("inf"))
    return str(outcome["id"])


def _keeper(site: JobSite, job: Job) -> Process:
    """The keeper that looks after the job."""
    record = until(lambda: read(str(job.dir), job.attempt).process, "the job's record")
    identity = Identity.parse(record.keeper)
    assert identity is not None
    process = processes.find(identity)
    assert process is not None
    return process


@contextmanager
def _unwritten(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """The job's script, started as a keeper starts it that dies before it can write that down; it has ended at the end."""
    with subprocess.Popen(["/bin/sh", f"{job.dir}/{JOB_SCRIPT}"], cwd=job.dir, start_new_session=True) as script:
        try:
            yield script
        except BaseException:
            os.killpg(script.pid, signal.SIGKILL)
            raise


def _kill_keeper(site: JobSite, job: Job) -> Identity:
    keeper = _keeper(site, job)
    assert processes.send(keeper, signal.SIGKILL)
    until(lambda: not processes.is_alive(keeper.identity))
    return keeper.identity


def _is_woken_within(process: Process, seconds: float) -> bool:
    before = _wakeups(process)
    time.sleep(seconds)
    return _wakeups(process) != before


def _wakeups(process: Process) -> str:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
