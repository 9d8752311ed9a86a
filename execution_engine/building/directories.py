"""Directories held by descriptors: whatever is put in the place of one on the way, all is made where it was meant to be."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine.errors import BuildError

_FOLLOWED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLAIN = _FOLLOWED | os.O_NOFOLLOW
_NOT_PLAIN = frozenset({errno.ENOTDIR, errno.ELOOP})
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM})


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """The descriptor, which is closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(parent: int, name: str | bytes) -> int:
    """A directory in another; not a link to one.  Raises OSError."""
    return os.open(name, _PLAIN, dir_fd=parent)


def open_or_make(parent: int, name: str | bytes) -> int:
    """The same, made where it is not there."""
    try:
        return open_directory(parent, name)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        return open_directory(parent, name)


def open_shard(shard: Path, jobs_dir: Path) -> int:
    """`jobs_dir/<project>/<shard>`, made where it is not there; only `jobs_dir` itself may be a link.

    Raises BuildError where one of the two is no plain directory, or closed to the engine: that concerns the jobs of this project
    alone.  Raises OSError when no job can be built now.
    """
    try:
        descriptor = os.open(jobs_dir, _FOLLOWED)
    except FileNotFoundError:
        jobs_dir.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(jobs_dir, _FOLLOWED)
    with opened(descriptor) as top:
        try:
            with opened(open_or_make(top, shard.parent.name)) as project:
                return open_or_make(project, shard.name)
        except OSError as error:
            if error.errno in _NOT_PLAIN:
                wrong = "not a directory, or a symbolic link; the administrator can make it a plain directory"
            elif error.errno in _NOT_OURS and os.access(jobs_dir, os.W_OK | os.X_OK):
                wrong = f"closed to the engine's user ({error.strerror}); the administrator can give it to that user"
            else:
                raise
            raise BuildError(f"{shard.parent}, or {shard.name} in it, is {wrong}; then `execd retry`") from error
