"""Files in directories where somebody else may put anything at any time: opened by descriptors, one name after the other.

No link is followed, no pipe and no device is waited for, and what was looked at is what is read: a name may mean another thing a
moment later, a descriptor does not.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FINDING = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_below(directory: Path, path: str, *, is_directory: bool = False) -> Iterator[int]:
    """A descriptor for reading the plain file `path`, relative to `directory` and without `..`; or of a directory's place.

    `directory` itself is believed, with all links on the way to it; nothing below it is.  A file of another user than its
    directory's is not read: a hard link that was put there.  Raises OSError, which says what is in the file's place.
    """
    names = path.split("/")
    try:
        descriptors = [os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    except ValueError as error:
        raise FileNotFoundError(errno.ENOENT, "no path can be like this one", str(directory)) from error
    try:
        for name in names:
            descriptors.append(
                _found(name, descriptors[-1], directory / path, is_file=len(descriptors) == len(names) and not is_directory)
            )
        yield descriptors[-1]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def kind_of(path: Path) -> str:
    """What is there, links followed: `a file`, `a directory`, `a device`, `a named pipe`, `a socket`.  Raises OSError."""
    return _kind(path.stat())


def plain_content(path: Path, most: int = -1) -> bytes:
    """What a plain file of the administrator or the caller holds, links followed, or its first `most` bytes.

    Raises OSError, also for a pipe or a device: nobody would wait for it, nor for its end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {_kind(found)}; give a file", str(path))
    with open(descriptor, "rb") as file:
        return file.read(most)


def _kind(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "a file")


def name_of(descriptor: int) -> str:
    """The path of what is open, as the kernel knows it now; another one than any if it was removed."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - the link's own text


def open_up(parent: int | None, name: str, *below: str) -> None:
    """Lets this user again do all in a directory of its own, and in those below it of which one is in the other: a job may have
    taken that away.  Anything else that has the name is left alone.  Raises OSError.
    """
    try:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISDIR(os.fstat(held).st_mode):
            os.chmod(f"/proc/self/fd/{held}", 0o700)  # noqa: PTH101 - the file that is held, whatever has its name now
            if below:
                open_up(held, *below)
    finally:
        os.close(held)


def _found(name: str, above: int, path: Path, *, is_file: bool) -> int:
    """What has this name: a plain file, or a directory."""
    if not is_file:
        try:
            return os.open(name, _FINDING, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    if not (is_file and stat.S_ISREG(found.st_mode)):
        what = _kind(found)
        where = "in its place" if is_file else f"in the place of {name}"
        raise OSError(errno.EINVAL, f"not read: there is {what} {where}", str(path))
    descriptor = os.open(name, _READING, dir_fd=above)
    opened = os.fstat(descriptor)
    if not os.path.samestat(found, opened):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not read: it was replaced just now", str(path))
    if opened.st_uid != os.fstat(above).st_uid:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "not read: it belongs to another user than its directory", str(path))
    return descriptor
