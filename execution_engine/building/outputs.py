"""The results of a job: which files of its directory its `outputs` patterns match.

Patterns are those of a shell, relative to the job's directory: `*`, `?` and `[…]` match within one name, `**` stands for any
number of directories (at the end of a pattern: for all files below), and names that begin with a dot match only where the
pattern says the dot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from execution_engine.descriptors import name_of
from execution_engine.errors import BuildError
from execution_engine.job_output import opened_directory
from execution_engine.jobs.job import Result

MAX_RESULTS = 10_000
MAX_BYTES = 2 << 20
"""Of all results together, as a document holds them: a document has room for 16 MiB, and its app needs some of it."""
MAX_EXAMINED = 1_000_000
"""Entries of the directory that are looked at: a job must not keep the engine busy by what it leaves behind."""
_OVERHEAD = 40
"""Bytes of a result beside its path."""
_OURS = ".execd"
_LOOKING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_Pattern = tuple[str, ...]


def check_patterns(patterns: Iterable[str]) -> None:
    """Raises BuildError for a pattern that can match nothing in the job's directory."""
    for pattern in patterns:
        if not _is_valid(pattern):
            raise BuildError(
                f"outputs: {pattern!r} is not a pattern for files in the job's directory; expected for example "
                "*.txt or results/**: not empty, not absolute, no .."
            )


class Collected(NamedTuple):
    """What a job left.  `cut`: there is more, which is not listed."""

    results: list[Result]
    cut: bool


def collect(directory: Path, patterns: Iterable[str], beat: Callable[[], object] = lambda: None) -> Collected:
    """The regular files in `directory` that a pattern matches, sorted by path; MAX_RESULTS of MAX_BYTES at most, found among
    MAX_EXAMINED entries.

    Never leaves the directory: symbolic links to directories are not followed, those to files count if the file is inside.
    What cannot be read is left out.  A name that is not UTF-8 is recorded with its odd bytes as `\\xNN`.
    `beat` is called for each entry that is looked at.
    """
    parsed = frozenset(filter(None, (_parse(pattern) for pattern in patterns if _is_valid(pattern))))
    if not parsed:
        return Collected([], cut=False)
    with ExitStack() as stack:
        try:
            root = stack.enter_context(opened_directory(directory))
        except OSError:  # gone, or a link in its place
            return Collected([], cut=False)
        return _collected(root, parsed, beat)


def _collected(root: int, patterns: frozenset[_Pattern], beat: Callable[[], object]) -> Collected:
    found: dict[str, int] = {}
    room, examined = MAX_BYTES, count(1)
    with closing(_matches(root, patterns, beat, examined)) as matches:
        for path, entry, above in matches:
            size = _size(root, entry, above)
            if size is None:
                continue
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            room -= len(shown.encode()) + _OVERHEAD
            if len(found) == MAX_RESULTS or room < 0:
                return Collected(_sorted(found), cut=True)
            found[shown] = size
    return Collected(_sorted(found), cut=next(examined) > MAX_EXAMINED + 1)


def _sorted(found: dict[str, int]) -> list[Result]:
    return [Result(path=path, size=found[path]) for path in sorted(found)]


def _is_valid(pattern: str) -> bool:
    return bool(pattern) and not pattern.startswith("/") and ".." not in pattern.split("/")


def _parse(pattern: str) -> _Pattern:
    """The pattern's parts, without those that say nothing (`.`, an empty one, `**` after `**`)."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return tuple(part for number, part in enumerate(parts) if part != "**" or number == 0 or parts[number - 1] != "**")


def _matches(
    root: int, patterns: frozenset[_Pattern], beat: Callable[[], object], examined: Iterator[int]
) -> Generator[tuple[str, os.DirEntry[str], int], None, None]:
    """One walk for all patterns: each directory is read once, and only if something below it can match."""
    for (path, entry, above, rests), number in zip(_walk(root, patterns), examined, strict=False):
        if number > MAX_EXAMINED:
            return
        beat()
        if any(len(rest) == 1 and _match(entry.name, rest[0]) for rest in rests):
            yield path, entry, above


def _walk(root: int, patterns: frozenset[_Pattern]) -> Iterator[tuple[str, os.DirEntry[str], int, frozenset[_Pattern]]]:
    """All entries worth a look: path, entry, its directory, and what of the patterns is left for its name and what is below."""
    todo = [("", _open_ended(patterns))]
    while todo:
        prefix, rests = todo.pop()
        with _entries(root, prefix) as (above, entries):
            for entry in entries:
                if not prefix and entry.name == _OURS:
                    continue
                path = prefix + entry.name
                yield path, entry, above, rests
                if entry.is_dir(follow_symlinks=False) and (below := _below(rests, entry.name)):
                    todo.append((path + "/", below))


@contextmanager
def _entries(root: int, prefix: str) -> Iterator[tuple[int, list[os.DirEntry[str]]]]:
    """An open directory and what is in it: nothing if it is gone, closed by the job, or has a link in its way."""
    try:
        descriptor = os.open(prefix or ".", _LOOKING, dir_fd=root)
    except OSError:
        yield root, []
        return
    try:
        entries: list[os.DirEntry[str]] = []
        with suppress(OSError):
            if not prefix or name_of(descriptor) == f"{name_of(root)}/{prefix}".rstrip("/"):
                with os.scandir(descriptor) as found:
                    entries = list(islice(found, MAX_EXAMINED + 1))
        yield descriptor, entries
    finally:
        os.close(descriptor)


def _open_ended(patterns: Iterable[_Pattern]) -> frozenset[_Pattern]:
    """`**` may also stand for no directory at all."""
    return frozenset(rest for pattern in patterns for rest in (pattern, pattern[1:] if pattern[0] == "**" else ()) if rest)


def _below(rests: frozenset[_Pattern], name: str) -> frozenset[_Pattern]:
    """What is left to match inside the directory `name`."""
    stay = (rest for rest in rests if rest[0] == "**" and not name.startswith("."))
    go = (rest[1:] for rest in rests if rest[0] != "**" and len(rest) > 1 and _match(name, rest[0]))
    return _open_ended((*stay, *go))


def _match(name: str, part: str) -> bool:
    return fnmatchcase(name, part) and name.startswith(".") <= part.startswith(".")


def _size(root: int, entry: os.DirEntry[str], above: int) -> int | None:
    """Bytes of a regular file inside `root`; None for anything else."""
    try:
        status = _target(root, entry.name, above) if entry.is_symlink() else entry.stat(follow_symlinks=False)
    except OSError:  # gone meanwhile, or a link that leads nowhere
        return None
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def _target(root: int, name: str, above: int) -> os.stat_result | None:
    """What a symbolic link leads to, if that is inside `root` and the job's own."""
    descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=above)
    try:
        inside = os.path.relpath(name_of(descriptor), name_of(root)).split("/")[0]
        return None if inside in ("..", _OURS) else os.fstat(descriptor)
    finally:
        os.close(descriptor)
