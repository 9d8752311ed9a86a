"""Messages between our own processes: JSON objects over a connected pair of sequenced-packet sockets, one message a packet."""

from __future__ import annotations

import array
import json
import select
import socket
from typing import Any

Message = dict[str, Any]

_SEND_TIMEOUT = 5.0
"""Seconds that a message waits for room in the channel."""
_INT_SIZE = array.array("i").itemsize
_buffer = bytearray(1 << 20)
"""Room for one message of any channel of this process; to allocate it for each costs more than to read one."""


class Channel:
    """One end.  `None` from `receive` means that nothing is waiting; EOFError that the other process is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The end that was inherited or received as a file descriptor."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, fd: int | None = None, patience: float = _SEND_TIMEOUT) -> bool:
        """Sends a message, with a file descriptor if one is given.

        False when the other end is gone, or has no room for `patience` seconds.
        """
        ancillary = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        data = json.dumps(message, default=str).encode()
        try:
            try:
                self._socket.sendmsg([data], ancillary)
            except BlockingIOError:
                self._wait_for_room(patience)
                self._socket.sendmsg([data], ancillary)
        except OSError:
            return False
        return True

    def _wait_for_room(self, patience: float) -> None:
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        room.poll(patience * 1000)

    def receive(self) -> Message | None:
        """The next message, or None when there is none now.  Raises EOFError when the other end is closed."""
        message, fd = self.receive_with_fd()
        if fd is not None:
            raise RuntimeError("a file descriptor came with a message that should have none")
        return message

    def receive_with_fd(self) -> tuple[Message | None, int | None]:
        """As `receive`, with the file descriptor that came along."""
        try:
            size, ancillary = self._read()
        except (BlockingIOError, InterruptedError):
            return None, None
        except ConnectionError:
            raise EOFError from None
        if not size:
            raise EOFError
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[:_INT_SIZE])
        return json.loads(_buffer[:size]), (fds[0] if fds else None)

    def _read(self) -> tuple[int, list[tuple[int, int, bytes]]]:
        try:
            return self._socket.recvmsg_into([_buffer], socket.CMSG_LEN(_INT_SIZE))[:2]
        except ConnectionResetError:
            # The other end went without reading all that it was sent; the kernel tells that once, before its last words.
            return self._socket.recvmsg_into([_buffer], socket.CMSG_LEN(_INT_SIZE))[:2]

    def close(self) -> None:
        self._socket.close()
