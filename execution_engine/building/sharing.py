"""A job's directory that a group, or everybody, may look into, as its umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from execution_engine.building.directories import opened


def share(place: int, directory: Path, inputs: Iterable[str], umask: int) -> None:
    """Lets those in whom `umask` does not keep out: to the directory, which `place` holds, to its inputs, and through the two
    directories above it.  `.execd` stays private.
    """
    for name in inputs:
        parents = name.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            _open(place, "/".join(parents[:depth]), umask)
        _open(place, name, umask)
    os.fchmod(place, stat.S_IMODE(os.fstat(place).st_mode) | (0o777 & ~umask))
    for above in (directory.parent, directory.parent.parent):
        with opened(os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as found:
            mode = stat.S_IMODE(os.fstat(found).st_mode)
            if mode | (0o111 & ~umask) != mode:
                os.fchmod(found, mode | (0o111 & ~umask))


def _open(place: int, name: str, umask: int) -> None:
    """A new file or directory: the group and others may what its owner may, but for the umask."""
    path = os.fsencode(name)
    mode = os.stat(path, dir_fd=place, follow_symlinks=False).st_mode & 0o700
    os.chmod(path, (mode | mode >> 3 | mode >> 6) & ~umask | mode, dir_fd=place)
