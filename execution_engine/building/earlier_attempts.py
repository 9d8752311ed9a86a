"""What earlier attempts of a job left: their whole directories, kept as `.execd/attempt-N` of the job's directory.

The directory itself is moved, not its files: whatever of an earlier attempt may still run somewhere works on in what was its own
directory, and can neither touch nor be taken for the new attempt.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from execution_engine.building.directories import open_directory, open_or_make, opened
from execution_engine.descriptors import open_up
from execution_engine.jobs.exit_record import KEPT

_OURS = ".execd"
_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def place_of_attempt(attempt: int) -> str:
    """Where in a job's directory the files of an attempt are kept once a later one was built."""
    return f"{_OURS}/{KEPT}{attempt}"


def directory_of_attempt(directory: Path, attempt: int) -> Path:
    """The same place as a path."""
    return directory / place_of_attempt(attempt)


def are_kept(directory: Path, attempt: int) -> bool:
    """Whether the directory was made for this attempt: what the one before left is in it."""
    return os.path.lexists(directory_of_attempt(directory, attempt - 1))


def renew(shard: int, name: str, attempt: int) -> str:
    """Makes an empty directory `name` in `shard`, with a `.execd` that keeps the earlier attempts; returns some words about it.

    Harmless when repeated, also after a crash at any point: the new directory is prepared beside the old one, and takes its place
    when it is complete.  Raises OSError.
    """
    before, new = f"{KEPT}{attempt - 1}", f".{name}.new"
    if _is_there(shard, f"{name}/{_OURS}/{before}"):
        with opened(open_directory(shard, name)) as directory:
            _empty(directory)
        return " anew, over an earlier build"
    with opened(open_or_make(shard, new)) as directory, opened(open_or_make(directory, _OURS)) as ours:
        if not _is_there(ours, before):
            _move(shard, name, ours, before)
        _bring_along(ours, before)
    os.rename(new, name, src_dir_fd=shard, dst_dir_fd=shard)
    return f"; attempt {attempt - 1} is kept in {_OURS}/{before}"


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _move(shard: int, name: str, ours: int, kept: str) -> None:
    """The directory becomes `kept`; an empty one if it is gone, or was made on another machine."""
    if not _is_there(shard, name):
        os.mkdir(kept, 0o700, dir_fd=ours)
        return
    open_up(shard, name, _OURS)
    os.rename(name, kept, src_dir_fd=shard, dst_dir_fd=ours)


def _bring_along(ours: int, before: str) -> None:
    """What was kept of attempts before that one moves to the new directory.  A job may have put anything in its place: a link is
    not followed.
    """
    try:
        with opened(open_directory(ours, before)) as kept, opened(open_directory(kept, _OURS)) as theirs:
            for older in _attempts(theirs):
                os.rename(older, older, src_dir_fd=theirs, dst_dir_fd=ours)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise


def _attempts(ours: int) -> list[str]:
    """What is kept in a `.execd`."""
    return [each for each in os.listdir(ours) if each.startswith(KEPT)]


def _empty(directory: int) -> None:
    """Takes away what an interrupted build of this attempt left."""
    with opened(open_directory(directory, _OURS)) as ours:
        kept = _attempts(ours)
        for place, stays in ((directory, [_OURS]), (ours, kept)):
            for name in os.listdir(place):  # noqa: PTH208 - of a descriptor
                if name not in stays:
                    _remove(place, name)


def _remove(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
