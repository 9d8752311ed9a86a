"""What a job wrote, read as what it is: the work of somebody who may put anything in the place of any file, at any time.

Plain files only, below the directory that holds all jobs; a bounded part of them at once.  See `descriptors`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine.descriptors import open_below

_CHUNK = 1 << 16
_LINE = 1 << 16
"""Bytes that a line may have, on an average, where lines are counted: a file need not have any."""
_LEVELS = 3
"""From jobs_dir to a job's directory: project, shard, job."""


class Output:
    """An open file of a job's.  It is the same file whatever becomes of its name."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.position = 0
        """up to where it was copied"""

    @property
    def size(self) -> int:
        """Bytes that it has now."""
        return os.fstat(self._descriptor).st_size

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def copy(self, write: Callable[[bytes], object], lines: int | None = None) -> None:
        """Hands over what it holds from `position` on: what is there now, or the next `lines` lines of it."""
        end = self.size
        if end < self.position:  # cut meanwhile, and begun again
            self.position = 0
        if lines is not None:
            end = min(end, self.position + lines * _LINE)
        while (lines is None or lines > 0) and (
            chunk := os.pread(self._descriptor, min(_CHUNK, end - self.position), self.position)
        ):
            if lines is not None:
                chunk, lines = _beginning(chunk, lines)
            self.position += len(chunk)
            write(chunk)

    def go_to_last(self, lines: int) -> None:
        """Sets `position` to where the last `lines` lines begin; reads no more than these."""
        end = position = self.size
        least = max(0, end - lines * _LINE)
        left = lines + (end > 0 and os.pread(self._descriptor, 1, end - 1) == b"\n")
        while left > 0 and position > least:
            start = max(least, position - _CHUNK)
            chunk = os.pread(self._descriptor, position - start, start)
            while left > 0 and (at := chunk.rfind(b"\n")) >= 0:
                chunk, left = chunk[:at], left - 1
            position = start + len(chunk) + 1 if left == 0 else start
        self.position = position if lines else end

    def end(self, size: int) -> tuple[bytes, bool]:
        """The last bytes, `size` at most, and whether that is all of it."""
        whole = self.size
        return os.pread(self._descriptor, size, max(0, whole - size)), whole <= size


@contextmanager
def opened(directory: Path, path: str) -> Iterator[Output]:
    """The file `path` of the job whose directory this is.  Raises OSError: it is not there, or is no plain file."""
    with open_below(*_place(directory, path)) as descriptor:
        yield Output(descriptor)


@contextmanager
def opened_directory(directory: Path) -> Iterator[int]:
    """A descriptor of the place of a job's directory (O_PATH).  Raises OSError: it is not there, or a link is in its place."""
    with open_below(*_place(directory), is_directory=True) as descriptor:
        yield descriptor


def _place(directory: Path, path: str = "") -> tuple[Path, str]:
    """The directory above, in which nobody but the engine's user can put anything, and the rest of the way."""
    if not directory.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "its job's directory has no absolute path", str(directory / path))
    root = directory.parents[min(_LEVELS, len(directory.parents)) - 1] if directory.parents else directory
    return root, str((directory / path).relative_to(root))


def _beginning(chunk: bytes, lines: int) -> tuple[bytes, int]:
    """The first `lines` lines of the chunk, and how many are still to come."""
    at = -1
    while lines > 0:
        at = chunk.find(b"\n", at + 1)
        if at < 0:
            return chunk, lines
        lines -= 1
    return chunk[: at + 1], 0
