"""Why a message did not reach a server that is away, hangs or speaks no HTTP: in words, not in those of Python."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from execution_engine.notification.message import Message
from execution_engine.notification.sending import send
from execution_engine.notification.targets import DeliveryFailed

MESSAGE = Message("ended", "a job", good=True, headers={"X-Execd-Key": "k"})
Answering = Callable[[bytes | None], int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """`answering(bytes)` is the port of a server that answers so, and hangs up; None: that says nothing."""
    listeners, held = [], []

    def serve(listener: socket.socket, answer: bytes | None) -> None:
        try:
            client = listener.accept()[0]
        except OSError:
            return
        held.append(client)
        client.settimeout(10)
        if answer is not None:
            client.recv(1 << 16)
            client.sendall(answer)
            with suppress(OSError):  # the other side was quicker
                client.shutdown(socket.SHUT_RDWR)

    def start(answer: bytes | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, answer)))
        threads[-1].start()
        port: int = listener.getsockname()[1]
        return port

    threads: list[threading.Thread] = []
    yield start
    for open_socket in (*listeners, *held):
        with suppress(OSError):  # it has ended by itself
            open_socket.shutdown(socket.SHUT_RDWR)
        open_socket.close()
    for thread in threads:
        thread.join(10)


def why(url: str, timeout: float = 20.0) -> str:
    with pytest.raises(DeliveryFailed) as failed:
        send(url, MESSAGE, timeout=timeout, own_url=False)
    return str(failed.value)


def test_a_server_that_is_away_refused_the_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert why(f"json://127.0.0.1:{taken.getsockname()[1]}/") == "connection refused"


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("json", b"hello\r\nyou\r\n", "no HTTP answer"),
        ("json", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no HTTP answer"),
        ("json", b"", "the connection was closed without an HTTP answer"),
        ("jsons", b"hello\r\nyou\r\n", "no connection by TLS: wrong version number"),
    ],
)
def test_what_is_no_web_server_is_said_to_give_no_such_answer(
    answering: Answering, scheme: str, answer: bytes, words: str
) -> None:
    assert why(f"{scheme}://127.0.0.1:{answering(answer)}/") == words


def test_a_server_that_says_nothing_is_told_by_the_time_alone(answering: Answering) -> None:
    said = why(f"json://127.0.0.1:{answering(None)}/", 0.5)
    assert said == "timed out: the other side had not answered in full within 0.5 s"
