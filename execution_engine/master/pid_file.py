"""The pid file, which is also the lock of a run directory.

What counts is not the number in it but the record lock (fcntl(2)) on it: the kernel gives it up when the master ends, however
it ends, and names its holder.  So neither a file that a crash left, nor a process id that somebody else has by now, fools anyone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from execution_engine.errors import DaemonError
from execution_engine.users import as_user, name_of, nearest

PID_FILE = "execd.pid"

_FLOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, len, pid


class NotRunning(DaemonError):
    """No engine runs on this run directory."""


class AlreadyRunning(DaemonError):
    """Another engine runs on this run directory."""

    def __init__(self, run_dir: Path, pid: int) -> None:
        super().__init__(f"an engine runs on {run_dir} already (pid {pid}); `execd stop` ends it")
        self.pid = pid


class PidFile:
    """The master's hold on its run directory; kept until the process ends."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / PID_FILE
        self._fd: int | None = None

    def acquire(self) -> None:
        """Takes the lock and writes this process' id.  Raises AlreadyRunning, or DaemonError when the file cannot be written."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise AlreadyRunning(self._run_dir, holder(self._run_dir) or 0) from None
            raise DaemonError(f"the pid file {self._path} cannot be locked: {error.strerror}") from None
        if not self._is_in_place(fd):  # the last engine removed it between our open and our lock
            os.close(fd)
            self.acquire()
            return
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise self._unwritable(error) from None
        self._fd = fd

    def _unwritable(self, error: OSError) -> DaemonError:
        user = name_of(os.geteuid())
        advice = "make room on its file system" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see run_dir"
        return DaemonError(f"the pid file {self._path} cannot be written by user {user}: {error.strerror}; {advice}")

    def restore(self) -> bool:
        """Makes the file again if somebody took it away; whether that was so.

        Raises AlreadyRunning when another engine has the run directory by now, and DaemonError when the file cannot be made.
        """
        if (held := self._fd) is None or self._is_in_place(held):
            return False
        self._run_dir.mkdir(mode=0o700, exist_ok=True)
        self.acquire()
        os.close(held)
        return True

    def _is_in_place(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Removes the file and gives the lock up."""
        if self._fd is not None:
            if self._is_in_place(self._fd):
                self._path.unlink()
            os.close(self._fd)
            self._fd = None


def holder(run_dir: Path) -> int | None:
    """The process id of the master that runs on this directory, or None.  Raises DaemonError when the file cannot be read."""
    try:
        fd = os.open(run_dir / PID_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DaemonError(f"the pid file {run_dir / PID_FILE} cannot be read: {error.strerror}{_whose(error, run_dir)}") from None
    try:
        asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    if kind == fcntl.F_UNLCK:
        return None
    if pid <= 0:
        raise DaemonError(f"{run_dir} belongs to an engine in another container or on another host; ask it there")
    return int(pid)


def _whose(error: OSError, run_dir: Path) -> str:
    """As whom to call, when it is another user's."""
    place, owner = nearest(run_dir)
    if not isinstance(error, PermissionError) or owner == os.geteuid():
        return ""
    return f"; {place} belongs to user {name_of(owner)}: {as_user(owner)}"
