"""Ends what a thread does over the network once its time is over, whichever library does it.

The time-outs of such libraries hold for one read: a server that sends a byte now and then is within them for ever.
"""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from contextlib import suppress
from functools import cache
from typing import Any

_here = threading.local()


class CutOff:
    """Within the `with` block this thread's connections live for so many seconds, all together; then they are shut, and new
    ones refused: whoever reads or writes there gets an OSError or the end of the stream."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        """the time was over before the block was left"""
        self._seconds = seconds
        self._sockets: list[weakref.ref[socket.socket]] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> CutOff:
        _watch_new_sockets()
        _here.cut_off = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _here.cut_off = None

    def add(self, connection: socket.socket) -> None:
        """Takes a new socket of the thread.  Raises TimeoutError when the time is over."""
        with self._lock:
            if self.over:
                raise TimeoutError(f"not done within {self._seconds:g} s")
            self._sockets.append(weakref.ref(connection))

    def _cut(self) -> None:
        with self._lock:
            self.over = True
        for reference in self._sockets:
            if (connection := reference()) is not None:
                with suppress(OSError):  # closed by now, or never connected
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


@cache
def _watch_new_sockets() -> None:
    """The interpreter tells of each new socket, those of TLS included; once for a process."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.__new__" and (cut_off := getattr(_here, "cut_off", None)) is not None:
            cut_off.add(arguments[0])

    sys.addaudithook(hook)
