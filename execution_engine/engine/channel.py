"""Messages between our own processes: JSON objects over a connected pair of sequenced-packet sockets, one message a packet."""

from __future__ import annotations

import array
import json
import socket
from typing import Any

Message = dict[str, Any]

_MAX_MESSAGE = 1 << 20
_INT_SIZE = array.array("i").itemsize


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

    def send(self, message: Message, fd: int | None = None) -> bool:
        """Sends a message, with a file descriptor if one is given.  False when the other end is gone."""
        ancillary = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._socket.settimeout(5)
        try:
            self._socket.sendmsg([json.dumps(message, default=str).encode()], ancillary)
        except OSError:
            return False
        finally:
            self._socket.setblocking(False)
        return True

    def receive(self) -> Message | None:
        """The next message, or None when there is none now.  Raises EOFError when the other end is closed."""
        message, fd = self.receive_with_fd()
        if fd is not None:
            raise RuntimeError("a file descriptor came with a message that should have none")
        return message

    def receive_with_fd(self) -> tuple[Message | None, int | None]:
        """As `receive`, with the file descriptor that came along."""
        try:
            data, ancillary, _flags, _address = self._socket.recvmsg(_MAX_MESSAGE, socket.CMSG_LEN(_INT_SIZE))
        except (BlockingIOError, InterruptedError):
            return None, None
        except ConnectionError:
            raise EOFError from None
        if not data:
            raise EOFError
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[:_INT_SIZE])
        return json.loads(data), (fds[0] if fds else None)

    def close(self) -> None:
        self._socket.close()
