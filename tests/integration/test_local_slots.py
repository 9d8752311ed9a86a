"""Jobs that a keeper is given ahead of its slots: started in order, as others end, or given back."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

import pytest

from execution_engine.errors import SystemFull
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Started
from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.client import KeeperClient
from execution_engine.systems.local_keeper.processes import Identity
from execution_engine.systems.local_keeper.records import Order, read
from tests.support.execution_systems import local
from tests.support.job_sites import PATH, JobSite, submitted, until

WAIT = "touch started; while [ ! -e go ]; do sleep 0.02; done"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    """With two slots."""
    site = JobSite(tmp_path, lambda context: local(context, slots=2), kill_delay=1.0)
    yield site
    site.end()


def outcomes(site: JobSite, jobs: list[Job]) -> list[type]:
    return [type(outcome) for _, outcome in site.system.run_many(jobs)]


def test_jobs_beyond_the_slots_start_in_their_order_as_others_end(site: JobSite) -> None:
    told = site.root / "told"
    jobs = [site.job(f"echo {number} start >>{told}; sleep 0.05; echo {number} end >>{told}") for number in range(6)]
    native = [outcome.native_id for _, outcome in site.system.run_many(jobs) if isinstance(outcome, Started)]
    for job, job_no in zip(jobs, native, strict=True):
        site.wait(submitted(job, job_no), Status.FINISHED)
    lines = [line.split() for line in told.read_text().splitlines()]
    started = [int(number) for number, what in lines if what == "start"]
    assert sorted(started) == list(range(6))
    assert all(abs(place - number) <= 1 for place, number in enumerate(started)), "of two at a time the second may be first"
    at_once = list(accumulate(1 if what == "start" else -1 for _, what in lines))
    assert max(at_once) == 2


def test_what_gets_no_slot_in_a_moment_is_given_back(site: JobSite) -> None:
    jobs = [site.job(WAIT) for _ in range(4)]
    assert outcomes(site, jobs) == [Started, Started, SystemFull, SystemFull]
    assert not site.file(jobs[2], "started").exists()
    site.file(jobs[0], "go").touch()
    until(lambda: read(str(jobs[0].dir), 1).usage, "the end of the first")
    assert outcomes(site, jobs[2:]) == [Started, SystemFull]


def test_a_job_of_many_cores_is_not_overtaken(site: JobSite) -> None:
    one, two, small = site.job(WAIT), site.job(WAIT, resources={"cores": 2}), site.job(WAIT)
    assert outcomes(site, [one, two, small]) == [Started, SystemFull, SystemFull]
    assert not site.file(small, "started").exists()


def test_a_second_request_is_sent_at_once_and_its_jobs_come_after_those_of_the_first(site: JobSite) -> None:
    def in_turn() -> bool:
        one, wide = site.job("sleep 0.1"), site.job("touch done", resources={"cores": 2})
        narrow = site.job(f"test -e {wide.dir}/done")
        first, second = site.system.run_many([one, wide]), site.system.run_many([narrow])
        _wait_there(site, one, "stdout")  # nobody has asked for an outcome yet
        if [type(outcome) for _, outcome in (*first, *second)] != [Started] * 3:
            return False  # on a machine so busy that a slot was not free in time
        until(lambda: read(str(narrow.dir), 1).usage, "the end of the last")
        assert site.wait(submitted(narrow, site.system.find(narrow) or ""), Status.FINISHED, Status.ERROR) is Status.FINISHED
        return True

    until(in_turn, "three jobs that were started")


def test_jobs_of_an_actor_that_died_are_not_started(site: JobSite) -> None:
    jobs = [site.job(WAIT) for _ in range(3)]
    KeeperClient(site.run_dir, "here").ask("watch", [])
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as actor:
        actor.connect(str(site.run_dir / "local-here.2.sock"))
        orders = [Order(str(job.dir), 1, 0, 0, 1) for job in jobs]
        request = {"op": "run", "jobs": orders, "environment": {"PATH": PATH}, "slots": 2, "until": 1e12}
        actor.sendall(json.dumps(request).encode() + b"\n")
        assert len(json.loads(actor.makefile().readline())["outcomes"]) == 2
    KeeperClient(site.run_dir, "here").ask("watch", [])  # by now it has seen the other one go
    for job in jobs[:2]:
        site.file(job, "go").touch()
        until(lambda job=job: read(str(job.dir), 1).usage, "the end of the first two")
    assert site.system.find(jobs[2]) is None


def test_jobs_of_a_keeper_that_died_keep_their_slots(site: JobSite) -> None:
    jobs = [site.start(WAIT), site.start(WAIT)]
    _kill_keeper(jobs[0])
    third = site.job(WAIT)
    assert outcomes(site, [third]) == [SystemFull]
    site.file(jobs[0], "go").touch()
    site.wait(jobs[0], Status.UNKNOWN, Status.FINISHED)
    assert outcomes(site, [third]) == [Started]


def test_many_ends_are_few_hints_to_the_monitor(site: JobSite) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)) as monitor:
        monitor.bind(str(site.run_dir / "wake"))
        jobs = [site.job(["true"]) for _ in range(20)]
        assert outcomes(site, jobs) == [Started] * 20
        until(lambda: all(read(str(job.dir), 1).usage for job in jobs), "the end of all")
        hints = 0

        def news_of_the_last() -> bool:
            nonlocal hints
            try:
                hints += json.loads(monitor.recv(100)) == {"system": "here"}
            except BlockingIOError:
                return hints > 0
            return False

        until(news_of_the_last, "a hint")
        assert hints < 10


ODD = [
    '{"process": {"pid": 1e999, "start": 1, "boot": "b", "attempt": 1, "keeper": "k"}}',
    "[" * 15_000,
    '{"process": {"pid": 1, "start": 1, "boot": "b", "attempt": 1, "keeper": "%s.1"}}' % ("9" * 5_000),
    '{"process": {"pid": 1, "start": 1, "boot": "b", "attempt": 1, "keeper": "k", "cores": "many"}}',
]


@pytest.mark.parametrize("line", ODD, ids=["overflow", "deep", "long", "no number"])
def test_what_a_job_writes_into_its_directory_disturbs_neither_the_others_nor_another_keeper(site: JobSite, line: str) -> None:
    good, bad = site.start(WAIT), site.start(f"printf '%s\\n' '{line}' >>.execd/process; {WAIT}")
    _wait_there(site, bad, "started")
    assert site.system.get_statuses([good, bad]) == {good.text_id: Status.RUNNING, bad.text_id: Status.RUNNING}
    assert KeeperClient(site.run_dir, "other", idle=0.1).ask("watch", []) == []


def test_a_job_that_is_killed_in_the_moment_of_its_end_leaves_its_slot(site: JobSite) -> None:
    job, other = site.start(WAIT), site.start(WAIT)
    _kill_keeper(job)
    assert set(site.system.get_statuses([job, other]).values()) == {Status.RUNNING}, "adopted: nobody hears of their ends"
    for process in site.processes_of(job):
        processes.send(process, signal.SIGKILL)
    site.system.kill(job)
    until(lambda: outcomes(site, [site.job(WAIT)]) == [Started], "a free slot")


def test_a_job_whose_keeper_died_after_it_was_asked_is_not_said_to_be_refused(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    KeeperClient(site.run_dir, "here").ask("watch", [])
    job = site.job(WAIT)

    def die(_client: KeeperClient, _connection: socket.socket) -> Iterator[list[object]]:
        _wait_there(site, job, "started")
        _kill_keeper(job)
        raise ConnectionResetError
        yield []

    def full_disk(_client: KeeperClient) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(KeeperClient, "_answers", die)
    monkeypatch.setattr(KeeperClient, "_start", full_disk)
    assert outcomes(site, [job]) == [ConnectionResetError]
    assert site.processes_of(job)


def test_nothing_is_started_after_the_end_of_the_lease(site: JobSite) -> None:
    late = datetime.now(UTC) - timedelta(seconds=1)
    job = site.job(WAIT)
    job = job.model_copy(update={"lease": job.lease.model_copy(update={"until": late})})
    assert outcomes(site, [job]) == [SystemFull]
    assert site.system.find(job) is None


def test_the_system_knows_whether_it_counts_all_jobs(site: JobSite) -> None:
    running, over = site.start(WAIT), site.start(["true"])
    site.wait(over, Status.FINISHED)
    assert site.system.keeps_all([running, over])
    root = site.root / "elsewhere"
    root.mkdir()
    elsewhere = JobSite(root, lambda context: local(context, slots=2))
    try:
        assert not elsewhere.system.keeps_all([running, over])
    finally:
        elsewhere.end()


def _wait_there(site: JobSite, job: Job, name: str) -> None:
    until(lambda: site.file(job, name).exists(), name)


def _kill_keeper(job: Job) -> None:
    keeper = Identity.parse(until(lambda: read(str(job.dir), 1).process, "the record").keeper)
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGKILL)
    until(lambda: not processes.is_alive(keeper), "the end of the keeper")
