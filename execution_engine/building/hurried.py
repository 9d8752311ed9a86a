"""HTTP whose answers must be there by a moment, headers included.

The timeout of a socket is for each of its reads: a server that sends a byte now and then would keep a reader for ever.
"""

from __future__ import annotations

import time
import urllib.request
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PATIENCE = 30.0
"""Seconds that a server may be silent."""
_LEAST = 0.1


def patience(deadline: float) -> float:
    """Seconds that the next answer is waited for."""
    return max(_LEAST, min(_PATIENCE, deadline - time.monotonic()))


class HttpHandler(urllib.request.HTTPHandler):
    """Opens http URLs; all of the answer must have come by `deadline` (monotonic seconds), or a read raises TimeoutError."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_Http, deadline=self._deadline), req)


class HttpsHandler(urllib.request.HTTPSHandler):
    """The same for https."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(partial(_Https, deadline=self._deadline), req)


class _Http(HTTPConnection):
    def __init__(self, host: str, *, deadline: float, **more: Any) -> None:
        super().__init__(host, **more)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(self.sock, self._deadline)


class _Https(HTTPSConnection):
    def __init__(self, host: str, *, deadline: float, **more: Any) -> None:
        super().__init__(host, **more)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self.sock = _Socket(self.sock, self._deadline)


class _Socket:
    """A connected socket, what is read from which must come in time."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str) -> BufferedReader:
        """The file that a response reads from."""
        return BufferedReader(_Hurried(self._sock, self._sock.makefile(mode, buffering=0), self._deadline))


class _Hurried(RawIOBase):
    def __init__(self, sock: Any, stream: Any, deadline: float) -> None:
        self._sock, self._stream, self._deadline = sock, stream, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if time.monotonic() >= self._deadline:
            raise TimeoutError("it takes too long; the administrator's key is engine.actor_deadline (half of it)")
        self._sock.settimeout(patience(self._deadline))
        found: int | None = self._stream.readinto(buffer)
        return found

    def close(self) -> None:
        self._stream.close()
        super().close()
