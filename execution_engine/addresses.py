"""Unix sockets that have a name, and whether it is still theirs."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path


class Address:
    """The path of a socket.  Whoever may write to its directory can take it away, or bind another socket there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bound: os.stat_result | None = None

    def bind(self, bound: socket.socket) -> None:
        """Binds the socket, mode 0600 whatever the umask, in place of one that a dead process left.  Raises OSError."""
        if self.path.exists() and stat.S_ISSOCK(self.path.lstat().st_mode):
            self.path.unlink()
        umask = os.umask(0o177)
        try:
            bound.bind(str(self.path))
        finally:
            os.umask(umask)
        self._bound = self.path.lstat()

    def is_ours(self) -> bool:
        """Whether the path still names the socket that was bound."""
        try:
            return self._bound is not None and os.path.samestat(self._bound, self.path.lstat())
        except OSError:
            return False

    def give_up(self) -> None:
        """Removes the path, unless it is another's by now."""
        if self.is_ours():
            self.path.unlink(missing_ok=True)
        self._bound = None
