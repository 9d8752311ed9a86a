"""Events from other processes to log lines, over the real socket."""

from __future__ import annotations

import json
import multiprocessing
import os
import selectors
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_engine import events
from execution_engine.config import Log
from execution_engine.errors import DaemonError
from execution_engine.logger import Logger, LogReceiver


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: the name of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="execd") as name:
        yield Path(name)


@pytest.fixture
def receiver(place: Path) -> Iterator[LogReceiver]:
    receiver = LogReceiver(place / "log.sock", Logger(Log(file=place / "log", format="json"), terminal=None).handle)
    receiver.open()
    yield receiver
    receiver.close()


def records(place: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (place / "log").read_text().splitlines()] if (place / "log").exists() else []


def send(place: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, str(place / "log.sock"))


def chatter(path: Path, name: str, count: int) -> None:
    events.send_to(events.SocketSink(path), process=name)
    for number in range(count):
        events.emit("job.transition", job=str(number), label="größe\n", old="pending", new="running")


def test_events_of_several_processes_all_arrive_in_order(place: Path, receiver: LogReceiver) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=chatter, args=(place / "log.sock", f"p{number}", 200)) for number in range(3)]
    for child in children:
        child.start()
    received = 0
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)
        while received < 600 and selector.select(timeout=20):
            received += receiver.receive()
    for child in children:
        child.join()
    told = records(place)
    assert len(told) == 600
    for name, child in zip(("p0", "p1", "p2"), children, strict=True):
        mine = [record for record in told if record["process"] == name]
        assert [record["job"] for record in mine] == [str(number) for number in range(200)]
        assert {record["pid"] for record in mine} == {child.pid}


def test_events_that_are_told_together_arrive_together_and_in_order(place: Path, receiver: LogReceiver) -> None:
    sink = events.SocketSink(place / "log.sock")
    events.send_to(sink, process="actor")
    with events.together():
        for number in range(30):
            events.emit("job.transition", job=str(number), label="größe", old="pending", new="running")
        assert receiver.receive() == 0
    assert receiver.receive() == 30
    events.send_to(events.discard, process="test")
    sink.close()
    assert [record["job"] for record in records(place)] == [str(number) for number in range(30)]


def test_many_events_come_in_few_datagrams_and_those_that_were_lost_are_counted(place: Path) -> None:
    sink = events.SocketSink(place / "log.sock")
    told = [{"event": "job.transition", "job": str(number), "label": "x" * 5_000} for number in range(8)]
    sink(told[:2])  # nobody listens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(place / "log.sock"))
        reader.setblocking(False)
        sink(told[2:])
        datagrams = [json.loads(reader.recv(100_000)) for _ in range(2)]
        with pytest.raises(BlockingIOError):
            reader.recv(100_000)
    sink.close()
    assert [len(datagram) for datagram in datagrams] == [3, 3]
    assert datagrams[0][0]["lost_before"] == 2
    assert [record["job"] for datagram in datagrams for record in datagram] == ["2", "3", "4", "5", "6", "7"]


def test_events_of_a_block_that_fails_are_told_too(place: Path, receiver: LogReceiver) -> None:
    sink = events.SocketSink(place / "log.sock")
    events.send_to(sink, process="actor")

    def tell_and_fail() -> None:
        with events.together():
            events.emit("engine.ready")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        tell_and_fail()
    events.send_to(events.discard, process="test")
    sink.close()
    assert receiver.receive() == 1


@pytest.mark.parametrize("name", [os.fsdecode(b"data\xff"), "\ud800"])
def test_a_fact_that_is_not_utf8_such_as_the_name_of_a_file_is_told_as_it_is(
    place: Path, receiver: LogReceiver, name: str
) -> None:
    sink = events.SocketSink(place / "log.sock")
    sink([{"event": "engine.started", "config": name}])
    sink.close()
    assert receiver.receive() == 1
    assert [(record["event"], record.get("config")) for record in records(place)] == [("engine.started", name)]


def test_receiving_does_not_wait(receiver: LogReceiver) -> None:
    assert receiver.receive() == 0


def test_only_the_owner_can_open_the_socket_whatever_the_umask(place: Path) -> None:
    before = os.umask(0)
    try:
        receiver = LogReceiver(place / "s", Logger(Log(file=place / "log"), terminal=None).handle)
        receiver.open()
        assert stat.S_IMODE((place / "s").stat().st_mode) == 0o600
        assert os.umask(0) == 0
        receiver.close()
    finally:
        os.umask(before)
    assert not (place / "s").exists()


def test_the_socket_of_a_dead_engine_is_replaced(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(place / "log.sock"))
    receiver = LogReceiver(place / "log.sock", Logger(Log(file=place / "log"), terminal=None).handle)
    receiver.open()
    send(place, b'{"event": "engine.ready"}')
    assert receiver.receive() == 1
    receiver.close()


def test_a_file_in_the_way_is_not_removed(place: Path) -> None:
    (place / "log.sock").write_text("precious")
    with pytest.raises(DaemonError, match="in use"):
        LogReceiver(place / "log.sock", Logger(Log(file=place / "log"), terminal=None).handle).open()
    assert (place / "log.sock").read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_refused_with_the_reason(place: Path) -> None:
    receiver = LogReceiver(place / ("x" * 120), Logger(Log(file=place / "log"), terminal=None).handle)
    with pytest.raises(DaemonError, match="too long"):
        receiver.open()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello\nworld",
        b"\xff\xfe\x00",
        b"[1]",
        b'[{"event": "engine.ready"}, 1]',
        b"null",
        b'{"event": 3}',
        b'{"at": 1}',
        b"[" * 90_000,
        b'"x"',
    ],
)
def test_what_is_not_a_record_is_logged_and_harms_nobody(place: Path, receiver: LogReceiver, data: bytes) -> None:
    send(place, data)
    send(place, b'{"event": "engine.ready", "at": "soon", "pid": [], "process": null}')
    assert receiver.receive() == 2
    assert [record["event"] for record in records(place)] == ["log.unreadable", "engine.ready"]


def test_a_datagram_that_is_too_long_is_logged_as_such(place: Path, receiver: LogReceiver) -> None:
    send(place, b'{"event": "engine.ready", "why": "' + b"x" * 150_000 + b'"}')
    receiver.receive()
    assert [record.get("why") for record in records(place)] == ["too long"]


def test_numbers_that_json_does_not_know_do_not_break_the_json_log(place: Path, receiver: LogReceiver) -> None:
    send(place, b'{"event": "engine.ready", "load": NaN, "at": Infinity}')
    receiver.receive()
    assert '"load": "NaN"' in (place / "log").read_text()
    assert records(place)[0]["at"] == "Infinity"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can send as somebody else: run bin/test as root")
def test_what_another_user_sends_is_not_believed(place: Path, receiver: LogReceiver) -> None:
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(str(place / "log.sock"))
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        sender.send(b'{"event": "engine.ready"}')
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sender.close()
    assert receiver.receive() == 1
    assert [(record["event"], record["why"]) for record in records(place)] == [("log.unreadable", "sent by user 65534")]
