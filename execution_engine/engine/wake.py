"""The wake socket: anyone who has news for the engine (the client API, a keeper of local jobs) sends a datagram there.

A hint to look now, nothing more: polling is the truth, and a datagram that is lost costs a moment only.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
from pathlib import Path

from execution_engine.addresses import Address
from execution_engine.errors import DaemonError


class WakeSocket:
    """The monitor's end, `wake` in the run directory, open to the daemon's user only."""

    def __init__(self, run_dir: Path) -> None:
        self._address = Address(run_dir / "wake")
        self._socket: socket.socket | None = None
        self._selector: selectors.BaseSelector

    def open(self, selector: selectors.BaseSelector) -> None:
        """Binds the socket, in place of one that a dead engine left, and has the selector watch it.  Raises DaemonError."""
        self._selector = selector
        try:
            self._take(self._bound(self._address))
        except OSError as error:
            path = self._address.path
            raise DaemonError(f"the wake socket {path} cannot be made: {error}; see run_dir in the configuration") from None

    def keep(self) -> None:
        """Binds it anew if somebody took its path away.  Where that is not possible, polling is the truth."""
        if self._address.is_ours():
            return
        address = Address(self._address.path)
        with contextlib.suppress(OSError):
            bound = self._bound(address)
            self.close()
            self._address = address
            self._take(bound)

    def _bound(self, address: Address) -> socket.socket:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        address.bind(bound)
        return bound

    def _take(self, bound: socket.socket) -> None:
        self._socket = bound
        self._selector.register(self, selectors.EVENT_READ)

    def fileno(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def receive(self) -> set[str]:
        """Empties the socket; the names of the systems that have news (none for news of new jobs)."""
        assert self._socket is not None
        systems: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._socket.recv(4096)
                with contextlib.suppress(ValueError, AttributeError):
                    systems.add(str(json.loads(data).get("system", "")))
        return systems - {""}

    def close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self)
            self._socket.close()
            self._address.give_up()
