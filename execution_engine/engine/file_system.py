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


class Fault(NamedTuple):
    """Why nothing follows from what is missing in a job's directory.  `of_all`: nor in the other jobs' directories."""

    why: str
    of_all: bool


def fault(directory: str | None, jobs_dir: Path) -> Fault | None:
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
        why = _fault_of_all(top)
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
