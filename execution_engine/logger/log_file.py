"""The log file: whole lines, rotated by size, never wider open than its owner."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path


class LogFile:
    """A file to which one process appends lines.  Methods raise OSError; after one, the next `write` opens the file anew.

    A file that exists keeps its mode (an administrator's `create 0640` is respected); a new one is 0600.  What is no regular
    file, such as /dev/stdout, is written to and never rotated.
    """

    def __init__(self, path: Path, *, max_size: int, keep: int) -> None:
        self._path = path
        self._max_size = max_size
        self._keep = keep
        self._fd = -1
        self._size = 0
        self._regular = True

    def open(self) -> None:
        """Opens the file, and makes it and its directory where they are missing.  Harmless when repeated."""
        if self._fd >= 0:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
        found = os.fstat(self._fd)
        self._regular, self._size = stat.S_ISREG(found.st_mode), found.st_size

    def close(self) -> None:
        """Closes the file; the next `write` opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def write(self, lines: list[bytes]) -> None:
        """Appends the lines (with their newlines), each whole or not at all, and takes out of the list what is written."""
        try:
            self.open()
            while lines:
                if self._regular and self._size and self._size + len(lines[0]) > self._max_size:
                    self._rotate()
                self._append(lines)
        except OSError:
            self.close()
            raise

    def close_if_moved(self) -> None:
        """Closes the file when its path names another one, or none, by now: a rotation by somebody else."""
        if self._fd < 0 or not self._regular:
            return
        try:
            moved = not os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            moved = True
        if moved:
            self.close()

    def _append(self, lines: list[bytes]) -> None:
        """As many of the lines as the file has room for, at once; the first in any case."""
        ends = list(accumulate(map(len, lines), initial=0))
        fitting = max(1, bisect_right(ends, self._max_size - self._size) - 1) if self._regular else len(lines)
        data = b"".join(lines[:fitting])
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        finally:
            whole = bisect_right(ends, written) - 1
            del lines[:whole]
            self._size += ends[whole]
            if written > ends[whole] and self._regular:
                os.ftruncate(self._fd, self._size)

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self.open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
