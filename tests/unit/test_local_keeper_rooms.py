"""What the keeper does where it may not, or cannot, do all: processes of other users, no descriptors left, a log that grows."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from execution_engine.systems.local_keeper import complaints, processes
from execution_engine.systems.local_keeper.address import Address
from execution_engine.systems.local_keeper.batch import Batch
from execution_engine.systems.local_keeper.kept_job import AGAIN, FORCED_DELAY, NEWBORN, Ended, KeptJob
from execution_engine.systems.local_keeper.kept_jobs import KeptJobs
from execution_engine.systems.local_keeper.processes import Identity, Process, ProcessTable
from execution_engine.systems.local_keeper.records import Order, read
from execution_engine.systems.local_keeper.server import Keeper, _Connection

ME = os.getpid()


def _denied(*_arguments: object) -> NoReturn:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _process(pid: int, parent: int) -> Process:
    return Process(pid, 1000, "S", parent, 71, 71, 1, 1 << 20)


def test_a_process_that_is_hidden_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose /proc is mounted with `hidepid=1`."""
    own = processes.read(ME)
    assert own is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _denied)
        assert processes.is_alive(own.identity)
        with pytest.raises(PermissionError):
            processes.find(own.identity)
        table = ProcessTable.now()
    assert table.members(own.identity, own.parent, ("/nowhere", 1)) == []


def test_a_job_whose_process_id_is_a_hidden_process_by_now_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that job: an error in its place would end the conversation with the keeper, whatever else was asked."""
    jobs = KeptJobs(".execd/job_script", "home", lambda: None)
    monkeypatch.setattr(processes, "read", _denied)
    assert not jobs.kill(Order(str(tmp_path), 1, 0.0, 0, 1.0), Identity(1, 1000), ProcessTable.now)


@pytest.mark.parametrize(("number", "transient"), [(errno.ENFILE, True), (errno.ENOTDIR, False)])
def test_no_job_is_refused_for_good_because_no_descriptor_is_left(number: int, transient: bool) -> None:
    class Jobs(KeptJobs):
        def run(self, *_: object) -> NoReturn:
            raise OSError(number, os.strerror(number))

    jobs = Jobs(".execd/job_script", "home", lambda: None)
    now = processes.uptime()
    batch = Batch([Order("/nowhere", 1, 0.0, 0, 1.0)], {}, 1, now + 60, now)
    (refusal,) = batch.proceed(jobs, now + 1, its_turn=True)
    assert not isinstance(refusal, Identity)
    assert refusal.transient is transient


@pytest.mark.parametrize("there", [1, 3])
def test_of_a_few_connections_the_silent_make_room_too(tmp_path: Path, there: int) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    keeper = Keeper("here", ".execd/job_script", "home", directory, Address(directory, "local"), 1.0)
    pairs = [socket.socketpair() for _ in range(there)]
    for ours, _ in pairs:
        keeper._connections[ours.fileno()] = connection = _Connection(ours)
        keeper._selector.register(ours, connection.events)
    keeper._most = 1
    keeper._make_room(0.0)
    assert not keeper._connections
    for _, theirs in pairs:
        theirs.close()
    os.close(directory)


def test_a_keeper_that_cannot_look_at_its_address_says_so_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    address = Address(directory, "local")
    keeper = Keeper("here", ".execd/job_script", "home", directory, address, 1.0)
    os.close(directory)
    keeper._check_address()
    assert "nobody finds this keeper" in capfd.readouterr().err


def test_a_process_that_may_not_be_signalled_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    own = processes.read(ME)
    assert own is not None
    monkeypatch.setattr(signal, "pidfd_send_signal", _denied)
    with pytest.raises(PermissionError, match=f"process {ME} may not be signalled: it runs as another user"):
        processes.send(own, signal.SIGTERM)


def test_a_job_with_a_process_of_another_user_is_ended_as_far_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A `sudo` in a job: to be refused must neither hold up the end of the rest nor keep the job's slot for ever."""
    (tmp_path / ".execd").mkdir()
    job = KeptJob(Order(str(tmp_path), 1, 0.0, 0, 1.0), Identity(71, 1000), parent=True, reaper=ME)
    script, command, foreign = _process(71, ME), _process(72, 71), _process(73, 72)
    sent: list[tuple[int, signal.Signals]] = []

    def send(target: Process, number: signal.Signals) -> bool:
        if target.pid == 73:
            raise PermissionError(errno.EPERM, "process 73 may not be signalled")
        sent.append((target.pid, number))
        return True

    monkeypatch.setattr(processes, "send", send)
    now = 10.0 + NEWBORN
    job.end("killed", ProcessTable([script, command, foreign]), now)
    assert sent == [(72, signal.SIGTERM)]
    now += 1.0
    job.look(ProcessTable([script, command, foreign]), now)
    assert sent[1:] == [(72, signal.SIGKILL)]
    job.reaped(Ended(137), now)
    now += FORCED_DELAY
    job.look(ProcessTable([foreign]), now)
    assert not job.over
    for _ in range(2):
        now += AGAIN
        job.look(ProcessTable([foreign]), now)
    usage = read(str(tmp_path), 1).usage
    assert usage is not None
    assert (job.over, usage.reason) == (True, "killed")
    assert "leaves a process behind: [Errno 1] process 73" in capfd.readouterr().err


def test_a_command_that_appears_after_its_shell_was_asked_to_end_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    job = KeptJob(Order("/nowhere", 1, 0.0, 0, 5.0), Identity(71, 1000), parent=True, reaper=ME)
    sent: list[tuple[int, signal.Signals]] = []
    monkeypatch.setattr(processes, "send", lambda target, number: sent.append((target.pid, number)) or True)
    script, command = _process(71, ME), _process(72, 71)
    now = 10.0 + NEWBORN
    job.end("killed", ProcessTable([script]), now)
    for _ in range(2):
        job.look(ProcessTable([script, command]), now + 0.25)
    assert sent == [(71, signal.SIGTERM), (72, signal.SIGTERM)]


def test_a_log_that_is_too_long_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (complaints.LONGEST + 1))
    with log.open("a") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        complaints.complain("the usage is lost")
        complaints.complain("and another")
    assert log.read_text() == "the usage is lost\nand another\n"
