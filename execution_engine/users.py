"""Whose a file is, who could change it, and how root becomes the user that the engine runs as."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path

_MAX_LINKS = 40
_was_root = False
"""Whether root became this process' user: to it alone one says how to give that user what is root's."""


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


def making(directory: Path, owner: int) -> str:
    """What to do about a directory that this process' user cannot write or make; `owner`: of the nearest that is there."""
    user = os.geteuid()
    if owner not in (0, user) or (owner != user and directory == nearest(directory)[0] and not _was_root):
        return as_user(owner)
    place = shlex.quote(str(directory))
    if owner == user:
        return f"mend it with: chmod u+rwx {place}"
    return f"as root: install -d -m 700 -o {shlex.quote(name_of(user))} {place}"


def closed(path: Path) -> Path | None:
    """What keeps this process' user from reading a file: the first directory that it may not enter, the file; None: nothing."""
    real = Path(os.path.realpath(path))
    shut = (step for step in reversed(real.parents) if not os.access(step, os.X_OK))
    return next(shut, None if os.access(real, os.R_OK) else real)


@contextmanager
def closed_to_others() -> Iterator[None]:
    """Within it, nothing is made that group or others can write to, whatever the umask: they could change what is below."""
    before = os.umask(0o022)
    os.umask(before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def become(name: str | None) -> bool:
    """Turns root into this user for good: groups, ids, and what the environment says of the user.

    Returns whether it did.  Does nothing for anybody but root, nor for root itself or None.  Raises KeyError for a user who does
    not exist.
    """
    global _was_root
    if name is None or os.geteuid() != 0:
        return False
    user = pwd.getpwnam(name)
    if user.pw_uid == 0:
        return False
    os.initgroups(name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    _was_root = True
    os.environ.update(HOME=user.pw_dir, USER=name, LOGNAME=name, SHELL=user.pw_shell or "/bin/sh")
    return True


def fault(path: Path, *, own: bool = False, it: Path | None = None) -> str | None:
    """Why somebody else could change what is at `path`, or put another thing in its place, and what to do; None: nobody could.

    Somebody else is whoever is neither root nor this process' user.  Looked at are the file or directory itself, every directory
    above it, and every symbolic link on the way and what that leads to.  Nothing of it may belong to somebody else, nor be
    writable by group or others, as sudo and sshd see it: who is in a group today is not who is in it tomorrow.  A directory above
    that all may write to is harmless if it is sticky, as `/tmp` is.  `own`: the thing itself may not be root's either, unless
    this is root.  `it`: what the sentence is about, if not `path`.  What is not there is nobody's.  Raises OSError.
    """
    user = os.geteuid()
    steps, there = _way(path)
    for step, status in steps:
        named = "it" if step == (it or path).absolute() else str(step)
        if status.st_uid not in (0, user):
            return f"{named} belongs to user {name_of(status.st_uid)}, who could change it; {as_user(status.st_uid)}"
        sticky = bool(stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX)
        is_above = step != steps[-1][0] or not there
        if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode) and not (sticky and is_above):
            return f"others could change {named} (mode {stat.S_IMODE(status.st_mode):04o}); {_closing(step, sticky=sticky)}"
    if own and there and steps[-1][1].st_uid != user:
        name = name_of(user)
        if not _was_root:
            return f"it belongs to user root, not to {name}; {as_user(0)}"
        return f"it belongs to root, not to the engine's user; as root: chown {shlex.quote(name)} {shlex.quote(str(path))}"
    return None


def _closing(step: Path, *, sticky: bool) -> str:
    """What to do about a file or directory that others may write to."""
    if sticky:
        return "use a directory of its own"
    return f"mend it with: chmod go-w {shlex.quote(str(step))}"


def _way(path: Path) -> tuple[list[tuple[Path, os.stat_result]], bool]:
    """Every directory, link and file on the way to `path`, from the root, with links followed one at a time, as far as they are
    there; and whether all are."""
    here, links = Path("/"), 0
    steps = [(here, here.lstat())]
    ahead = list(reversed(path.absolute().parts[1:]))
    while ahead:
        part = ahead.pop()
        step = here.parent if part == ".." else here / part
        try:
            status = step.lstat()
        except FileNotFoundError:
            return steps, False
        steps.append((step, status))
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(ELOOP, "goes in circles through symbolic links", str(path))
        target = step.readlink()
        here = Path("/") if target.is_absolute() else here
        ahead.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
    return steps, True
