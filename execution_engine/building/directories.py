"""Directories held by descriptors: whatever is put in the place of one on the way, all is made where it was meant to be."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from execution_engine.errors import BuildError
from execution_engine.users import name_of

_FOLLOWED = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLAIN = _FOLLOWED | os.O_NOFOLLOW
_NOT_PLAIN = frozenset({errno.ENOTDIR, errno.ELOOP})
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM})


class opened:
    """In a `with` block: the descriptor, which is closed at the end."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


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

    Raises BuildError where one of the two is no plain directory, closed to the engine, or open to others, who could have another
    script run in a job's place: that concerns the jobs of this project alone.  Raises OSError when no job can be built now.
    """
    try:
        descriptor = os.open(jobs_dir, _FOLLOWED)
    except FileNotFoundError:
        jobs_dir.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(jobs_dir, _FOLLOWED)
    with opened(descriptor) as top:
        try:
            with opened(open_or_make(top, shard.parent.name)) as project:
                _refuse_if_others_can_change(project, shard.parent)
                found = open_or_make(project, shard.name)
        except OSError as error:
            if error.errno in _NOT_PLAIN:
                wrong = "not a directory, or a symbolic link; the administrator can make it a plain directory"
            elif error.errno in _NOT_OURS and os.access(jobs_dir, os.W_OK | os.X_OK):
                wrong = f"closed to the engine's user ({error.strerror}); the administrator can give it to that user"
            else:
                raise
            raise BuildError(f"{shard.parent}, or {shard.name} in it, is {wrong}; then `execd retry`") from error
    try:
        _refuse_if_others_can_change(found, shard)
    except BuildError:
        os.close(found)
        raise
    return found


def _refuse_if_others_can_change(directory: int, path: Path) -> None:
    """Raises BuildError for a directory of another user, or one that group or others may write to."""
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        whose = f"user {name_of(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}"
        raise BuildError(
            f"{path} is not used, because others could change it ({whose}); let the administrator move it away; `execd retry`"
        )
