"""Whether the file system of the jobs' directories answers.

A network file system that hangs lets no call return, and nothing in a process ends such a call: so a throw-away process looks.
One that fails, or is not mounted, looks as if the jobs had left nothing.  Neither says anything about any job.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path
from typing import NamedTuple

FILES = "the file system of jobs_dir"
"""Its name among the outages."""

_SAYS_NOTHING_OF_IT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP})
"""Errors that a job can cause by what it does to its own directory."""
_PROJECT_SHARD_JOB = 3


def hangs(directory: Path, seconds: float) -> bool:
    """Whether a process that lists the directory has not come back after so many seconds."""
    pid = os.fork()
    if pid == 0:
        _list_and_exit(directory)
    watch = os.pidfd_open(pid)
    try:
        came_back = bool(select.select([watch], [], [], seconds)[0])
        if came_back:
            os.waitpid(pid, 0)
        else:
            signal.pidfd_send_signal(watch, signal.SIGKILL)  # not waited for: it may be unable to end
    finally:
        os.close(watch)
    return not came_back


def _list_and_exit(directory: Path) -> None:
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
    finally:
        os._exit(0)


class Place(NamedTuple):
    """Which directory it is: the numbers of its device and of its inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, directory: Path) -> Place | None:
        """None: there is none."""
        try:
            found = directory.stat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)

    def is_same(self, other: Place) -> bool:
        """A file system without a device of its own (NFS, tmpfs) has another number each time that it is mounted."""
        mine, theirs = os.major(self.device), os.major(other.device)
        return self.inode == other.inode and (self.device == other.device or mine == theirs == 0)


def elsewhere(jobs_dir: Path, known: Place | None) -> str | None:
    """Why what is in `jobs_dir` now is not what was there when the configuration was accepted (`known`); None: it is."""
    if known is None:
        return None
    now = Place.of(jobs_dir)
    if now is not None and known.is_same(now):
        return None
    what = "cannot be found" if now is None else "is another directory than at the engine's start"
    return f"{jobs_dir} {what}; is its file system mounted? if it was moved on purpose: execd restart"


class Fault(NamedTuple):
    """Why nothing follows from what is missing in a job's directory.  `of_all`: nor in the other jobs' directories."""

    why: str
    of_all: bool


def fault(directory: str | None, jobs_dir: Path, known: Place | None = None) -> Fault | None:
    """None: something follows.

    A directory that is not below `jobs_dir` (that was another one before, or an app wrote the field) says nothing about it.
    """
    if directory is None:
        return None
    of_all = Path(directory).is_relative_to(jobs_dir)
    try:
        os.lstat(directory)
    except OSError as error:
        if error.errno not in _SAYS_NOTHING_OF_IT:
            return Fault(f"{directory} cannot be read: {error.strerror}", of_all)
        top = jobs_dir if of_all else Path(*Path(directory).parts[:-_PROJECT_SHARD_JOB])
        why = (elsewhere(jobs_dir, known) if of_all else None) or _fault_of_all(top)
        return Fault(why, of_all) if why is not None else None
    return None


def _fault_of_all(jobs_dir: Path) -> str | None:
    try:
        with os.scandir(jobs_dir) as entries:
            if next(entries, None) is not None:
                return None
    except OSError as error:
        return f"{jobs_dir} cannot be read: {error.strerror}"
    return f"{jobs_dir} is empty, though jobs have directories there; is its file system mounted?"
