"""Where a keeper is found: a lock, which makes it the only one, and a socket beside it.

Whoever starts a keeper goes by the lock, whoever talks to one by the socket.  Somebody may remove either (a clean-up of `/run`,
say): a keeper that is the only one and cannot be found would help nobody, so it looks now and then, and makes both anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

_BACKLOG = 64


class Address:
    """The two files of name `base` in `directory`, a descriptor."""

    def __init__(self, directory: int, base: str) -> None:
        self._directory = directory
        self._lock_name, self._socket_name = f"{base}.lock", f"{base}.sock"
        self._lock = -1
        self._bound: tuple[int, int] | None = None
        self.listener: socket.socket | None = None
        """the socket; None while another keeper has the lock"""

    def take(self) -> bool:
        """Takes the lock and binds the socket; False when another keeper has the lock.  Raises OSError."""
        lock = os.open(self._lock_name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._drop_lock()
        self._lock = lock
        self._bind()
        return True

    def is_whole(self) -> bool:
        """Whether lock and socket are still what others find under their names."""
        lock = os.fstat(self._lock)
        return self._found(self._lock_name) == (lock.st_dev, lock.st_ino) and self._found(self._socket_name) == self._bound

    def restore(self) -> None:
        """Makes anew what is no longer there.  Raises OSError, and then what can be used still is as it was."""
        lock = os.fstat(self._lock)
        if self._found(self._lock_name) == (lock.st_dev, lock.st_ino):
            self._bind()
        elif not self.take():
            self._close()

    def give_up(self) -> None:
        """Removes the socket, unless another keeper's is there."""
        if self._bound is not None and self._found(self._socket_name) == self._bound:
            os.unlink(self._socket_name, dir_fd=self._directory)

    def _bind(self) -> None:
        """A socket in the directory, whatever the length of its path.  The lock is ours, so one that is there is nobody's."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket_name, dir_fd=self._directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(f"/proc/self/fd/{self._directory}/{self._socket_name}")
            os.chmod(self._socket_name, 0o600, dir_fd=self._directory)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._close()
        self.listener, self._bound = listener, self._found(self._socket_name)

    def _close(self) -> None:
        if self.listener is not None:
            self.listener.close()
        self.listener, self._bound = None, None

    def _drop_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)

    def _found(self, name: str) -> tuple[int, int] | None:
        try:
            found = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
