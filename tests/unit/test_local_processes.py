"""Processes as /proc shows them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.processes import Identity, Process, ProcessTable
from tests.support.job_sites import until

PARENT = 50


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def test_the_own_process_is_read_as_it_is() -> None:
    own = processes.read(os.getpid())
    assert own is not None
    assert (own.parent, own.group, own.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert own.alive
    assert own.memory > 1 << 20
    assert abs(own.start / processes.TICKS - processes.uptime()) < 3600


def test_a_name_with_parentheses_and_blanks_confuses_nothing() -> None:
    code = "import time; open('/proc/self/comm', 'w').write('x) Z 1 (y'); print(flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = processes.read(child.pid)
        child.kill()
    assert process is not None
    assert process.parent == os.getpid()
    assert process.alive


def test_a_process_that_is_gone_is_none_and_a_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    process = processes.read(child.pid)
    assert process is not None
    assert processes.is_alive(process.identity)
    child.kill()
    until(lambda: not processes.is_alive(process.identity))
    assert processes.find(process.identity) is not None
    child.wait()
    assert processes.find(process.identity) is None
    assert not processes.send(process, signal.SIGTERM)


def a_sleep() -> int:
    return os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})


@pytest.mark.parametrize("ahead", [0, 7], ids=["the clock tells", "a clock that tells otherwise is not believed"])
def test_children_are_known_by_the_start_time_that_the_kernel_wrote_down(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    ticks, looks = processes._ticks, []
    monkeypatch.setattr(processes, "_ticks", lambda: ticks() + ahead)
    monkeypatch.setattr(processes, "read", lambda pid, read=processes.read: looks.append(pid) or read(pid))
    births = processes.Births()
    children = [births.identity(a_sleep) for _ in range(20)]
    looked = len(looks)
    monkeypatch.undo()
    try:
        assert [processes.find(child) is not None for child in children] == [True] * 20
        assert looked == 20 if ahead else looked < 20
    finally:
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def test_a_process_with_another_start_time_is_not_signalled(child: subprocess.Popen[bytes]) -> None:
    process = processes.read(child.pid)
    assert process is not None
    assert not processes.send(process._replace(start=process.start + 1), signal.SIGKILL)
    assert processes.is_alive(process.identity)
    assert processes.send(process, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "12", "12.", ".5", "-1.5", "12.5.6", "a.b", "4194000"])
def test_what_is_not_an_identity_is_none(text: str) -> None:
    assert Identity.parse(text) is None


def test_an_identity_is_read_as_it_was_written() -> None:
    assert Identity.parse(str(Identity(12, 345))) == Identity(12, 345)


def test_a_job_is_its_session_its_group_and_their_descendants() -> None:
    table = ProcessTable(
        [
            _process(100, PARENT, session=100),
            _process(101, 100, session=100),
            _process(102, 101, session=102),
            _process(103, 102, session=102),
            _process(200, PARENT, session=200),
            _process(1, 0, session=1),
        ]
    )
    assert _pids(table, Identity(100, 1000)) == [100, 101, 102, 103]


def test_zombies_do_not_count_but_a_process_without_its_first_thread_does() -> None:
    table = ProcessTable([_process(100, PARENT, session=100, state="Z"), _process(101, 100, session=100, state="Z", threads=3)])
    assert _pids(table, Identity(100, 1000)) == [101]


def test_a_session_whose_number_was_used_again_is_not_the_jobs() -> None:
    table = ProcessTable([_process(100, PARENT, session=100, start=2000), _process(101, 100, session=100, start=2001)])
    assert _pids(table, Identity(100, 1000)) == []


def test_what_is_left_of_a_session_counts_only_where_it_can_be_told_from_a_strangers() -> None:
    ours = _process(101, os.getpid(), session=100)
    strangers = _process(102, 1, session=100)
    table = ProcessTable([ours, strangers])
    assert _pids(table, Identity(100, 1000)) == [101]


def _process(pid: int, parent: int, *, session: int, start: int = 1000, state: str = "S", threads: int = 1) -> Process:
    return Process(pid, start, state, parent, session, session, threads, memory=0)


def _pids(table: ProcessTable, leader: Identity) -> list[int]:
    return [process.pid for process in table.members(leader, PARENT, ("/nowhere", 1))]
