"""What earlier attempts of a job left: their whole directories, kept as `.execd/attempt-N` of the job's directory.

The directory itself is moved, not its files: whatever of an earlier attempt may still run somewhere works on in what was its own
directory, and can neither touch nor be taken for the new attempt.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_OURS = ".execd"
_KEPT = "attempt-"


def place_of_attempt(attempt: int) -> str:
    """Where in a job's directory the files of an attempt are kept once a later one was built."""
    return f"{_OURS}/{_KEPT}{attempt}"


def directory_of_attempt(directory: Path, attempt: int) -> Path:
    """The same place as a path."""
    return directory / place_of_attempt(attempt)


def are_kept(directory: Path, attempt: int) -> bool:
    """Whether the directory was made for this attempt: what the one before left is in it."""
    return os.path.lexists(directory_of_attempt(directory, attempt - 1))


def renew(directory: Path, attempt: int) -> str:
    """Makes an empty directory with a `.execd` in which the earlier attempts are kept; returns some words about it.

    Harmless when repeated, also after a crash at any point: the new directory is prepared beside the old one, and takes its place
    when it is complete.  Raises OSError.
    """
    if are_kept(directory, attempt):
        _empty(directory)
        return " anew, over an earlier build"
    before = attempt - 1
    new = directory.with_name(f".{directory.name}.new")
    (new / _OURS).mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = directory_of_attempt(new, before)
    if not os.path.lexists(kept):
        _move(directory, kept)
    for older in _attempts(kept / _OURS):
        older.rename(new / _OURS / older.name)
    new.rename(directory)
    return f"; attempt {before} is kept in {_OURS}/{kept.name}"


def _move(directory: Path, kept: Path) -> None:
    """The directory becomes `kept`; an empty one if it is gone, or was made on another machine.

    A job may have taken away its own permission to change them.
    """
    for each in (directory, directory / _OURS):
        if each.is_dir() and not each.is_symlink():
            each.chmod(0o700)
    if os.path.lexists(directory):
        directory.rename(kept)
    else:
        kept.mkdir(mode=0o700)


def _attempts(ours: Path) -> list[Path]:
    """What is kept in a `.execd`.  A job may have put anything in its place: a link is not followed."""
    if ours.is_symlink() or not ours.is_dir():
        return []
    return [path for path in ours.iterdir() if path.name.startswith(_KEPT)]


def _empty(directory: Path) -> None:
    """Takes away what an interrupted build of this attempt left."""
    ours = directory / _OURS
    kept = set(_attempts(ours))
    for path in (*directory.iterdir(), *ours.iterdir()):
        if path not in kept and path != ours:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
