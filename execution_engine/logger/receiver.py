"""Receives the events of the other processes over a unix datagram socket."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

from execution_engine.addresses import Address
from execution_engine.errors import DaemonError
from execution_engine.events import Record, Sink

_LONGEST = 1 << 17
_MOST_AT_ONCE = 1000
_CREDENTIALS = struct.Struct("3i")
_CUT = int(socket.MSG_TRUNC)
_SHOWN = 200
_JSON = json.JSONDecoder(parse_constant=str)


class LogReceiver:
    """The log socket of an engine: only its own user (and root) can open it, and the kernel vouches for who sent what.

    The kernel queues few datagrams (net.unix.max_dgram_qlen, often 10; the size of the receive buffer plays no part): a sender
    that finds the queue full waits, shortly, so the socket wants to be read promptly.
    """

    def __init__(self, socket_path: Path, log: Sink) -> None:
        self._address = Address(socket_path)
        self._log = log
        self._socket: socket.socket | None = None
        self._buffer = bytearray(_LONGEST)

    def open(self) -> None:
        """Binds the socket, mode 0600 whatever the umask; a socket that a dead engine left there is replaced.

        Raises DaemonError when that is not possible.
        """
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._address.bind(receiver)
        except OSError as error:
            receiver.close()
            path = self._address.path
            raise DaemonError(f"the log socket {path} cannot be made: {error}; see run_dir in the configuration") from None
        self._socket = receiver

    def close(self) -> None:
        """Closes and removes the socket.  Harmless when repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._address.give_up()

    def is_reachable(self) -> bool:
        """Whether those who look for the socket at its path find this one."""
        return self._address.is_ours()

    def fileno(self) -> int:
        """For `selectors`: readable when events wait."""
        return self._opened().fileno()

    def receive(self) -> int:
        """Hands the waiting events to the logger, without waiting for more, and returns how many there were.

        No more when it has had 1,000, so that a flood leaves the caller's loop some time.
        """
        count = 0
        while count < _MOST_AT_ONCE:
            try:
                size, ancillary, flags, _ = self._opened().recvmsg_into([self._buffer], socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                break
            data = bytes(self._buffer[:size])
            records = _records(data, _uid(ancillary), truncated=bool(flags & _CUT))
            self._log(records)
            count += len(records)
        return count

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise DaemonError("the log socket is not open")
        return self._socket


def _uid(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid: int = _CREDENTIALS.unpack(data)[1]
            return uid
    return None


def _records(data: bytes, uid: int | None, *, truncated: bool) -> list[Record]:
    """The event of a datagram, or the events: see `events.SocketSink`."""
    if uid not in (0, os.geteuid()):
        return [_unreadable(data, f"sent by user {uid}")]
    if truncated:
        return [_unreadable(data, "too long")]
    try:
        told: Any = _JSON.decode(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        return [_unreadable(data, f"not JSON ({type(error).__name__})")]
    records = told if isinstance(told, list) else [told]
    if not all(isinstance(record, dict) and isinstance(record.get("event"), str) for record in records):
        return [_unreadable(data, "not an event")]
    return records


def _unreadable(data: bytes, why: str) -> Record:
    start = data[:_SHOWN].decode("utf-8", "backslashreplace")
    return {"event": "log.unreadable", "at": time.time(), "process": "log", "pid": os.getpid(), "why": why, "start": start}
