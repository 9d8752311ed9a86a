"""Named events: what happened, with its facts.  Code emits them; `logger.py` alone knows their wording and level.

An event is a flat record that JSON can hold: `event` (its name, such as `job.transition`), `at` (seconds since the epoch),
`process` (the title of the process) and `pid`, and the facts that the emitter gives.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Sink = Callable[[Sequence[Record]], None]

_MAX_DATAGRAM = 100_000
_PARCEL = 16_000
"""Bytes of events that are sent together: a sender waits while a quarter of its buffer (some 200,000) is unread."""
_SEND_TIMEOUT = 2.0
_JSON = json.JSONEncoder(default=str, ensure_ascii=False)


class _Channel:
    """Where this process' events go, and the name under which it sends them."""

    def __init__(self) -> None:
        self.sink: Sink = discard
        self.process = "execd"
        self.held: list[Record] | None = None


def discard(_records: Sequence[Record]) -> None:
    """The sink of a process that nobody listens to (a library user, a test)."""


_channel = _Channel()


def send_to(sink: Sink, *, process: str) -> None:
    """From now on this process' events go to `sink`, marked with the process' name."""
    _channel.sink, _channel.process = sink, process


def emit(event: str, /, **facts: Any) -> None:
    """Tells that `event` happened.  `facts` are values that JSON can hold; others are stored as their text."""
    record = {"event": event, "at": time.time(), "process": _channel.process, "pid": os.getpid(), **facts}
    if _channel.held is None:
        _channel.sink([record])
    else:
        _channel.held.append(record)


@contextmanager
def together() -> Iterator[None]:
    """The events of this block are sent at its end, in few datagrams: their reader is woken once, not for each."""
    held: list[Record] = []
    _channel.held = held
    try:
        yield
    finally:
        _channel.held = None
        _channel.sink(held)


class SocketSink:
    """Sends events as JSON datagrams, of one event or a list, to the master's log socket; never blocks for long, never raises.

    A master that stands still costs one wait; after that nothing waits until it reads again.

    An event that could not be sent is counted, and the count is sent with the next one that can.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket: socket.socket | None = None
        self._lost = 0

    def __call__(self, records: Sequence[Record]) -> None:
        """Sends the events in as few datagrams as they fit into."""
        for parcel in _parcels(map(_encode, records)):
            if self._lost:
                parcel[0] = parcel[0][:-1] + b', "lost_before": %d}' % self._lost
            try:
                self._connected().send(parcel[0] if len(parcel) == 1 else b"[" + b",".join(parcel) + b"]")
            except OSError:
                self.close()
                self._lost += len(parcel)
            else:
                self._recovered()

    def _recovered(self) -> None:
        if self._lost and self._socket is not None:
            self._socket.settimeout(_SEND_TIMEOUT)
        self._lost = 0

    def close(self) -> None:
        """Ends the connection; the next event makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            connection.settimeout(0 if self._lost else _SEND_TIMEOUT)
            connection.connect(self._path)
            self._socket = connection
        return self._socket


def _parcels(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    """So many of them together as a datagram may hold."""
    parcel: list[bytes] = []
    size = 0
    for event in encoded:
        if parcel and size + len(event) > _PARCEL:
            yield parcel
            parcel, size = [], 0
        parcel.append(event)
        size += len(event)
    if parcel:
        yield parcel


def _encode(record: Record) -> bytes:
    encoded = _JSON.encode(record).encode("utf-8", "surrogatepass")
    if len(encoded) <= _MAX_DATAGRAM:
        return encoded
    short = {key: value[:1000] if isinstance(value, str) else value for key, value in record.items()}
    short["truncated"] = True
    encoded = json.dumps(short, default=str).encode()
    if len(encoded) <= _MAX_DATAGRAM:
        return encoded
    return json.dumps({key: record[key] for key in ("event", "at", "process", "pid")} | {"truncated": True}).encode()
