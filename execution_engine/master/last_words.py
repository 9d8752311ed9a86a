"""The file `stderr` in the run directory: what the engine's processes say in the worst case, past the log."""

from __future__ import annotations

import os
from pathlib import Path

_LARGEST = 1 << 20
"""Bytes.  A library that complains at each call must not fill the disk."""


class LastWords:
    """A traceback of Python, the C library's last words.  All processes of the engine write to it as their standard error."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "stderr"
        self._before = run_dir / "stderr.1"

    def open(self) -> int:
        """Empties the file for another engine; returns its descriptor, which the caller closes."""
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def bound(self) -> None:
        """Moves what is there to `stderr.1` when it has become large.  Many hold the file open: it stays the same one."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return  # an engine in the foreground has none
        try:
            size = os.fstat(fd).st_size
            if size > _LARGEST:
                self._keep(os.pread(fd, _LARGEST, size - _LARGEST))
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def _keep(self, words: bytes) -> None:
        try:
            self._before.write_bytes(words)
        except OSError:
            return  # on a full disk: to make room comes first
