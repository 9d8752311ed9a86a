"""Whose a file is, and what root is told to do with what is another user's."""

from __future__ import annotations

import os
import pwd
import shlex
from pathlib import Path


def name_of(uid: int) -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def as_user(uid: int) -> str:
    """What to do instead, as part of a sentence; for root, with the command."""
    command = f": runuser -u {shlex.quote(name_of(uid))} -- execd …" if os.geteuid() == 0 else ""
    return f"run this as that user{command}"


def nearest(path: Path) -> tuple[Path, int]:
    """The path itself or the nearest directory above it that is there, as far as this process can see, and its owner."""
    for candidate in (path, *path.parents):
        try:
            return candidate, candidate.stat().st_uid
        except OSError:
            continue
    return Path("/"), 0
