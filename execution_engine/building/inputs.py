"""A job's input files: which names are allowed, and how the files come into its directory."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from execution_engine.building.directories import open_or_make, opened
from execution_engine.building.fetching import blocks
from execution_engine.config import InputSources
from execution_engine.errors import BuildError
from execution_engine.jobs.job import Inputs, Source

_RESERVED = frozenset({".execd", "stdout", "stderr"})
_DEEPEST = 100
_FAULT_OF_THE_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EEXIST, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EINVAL},
)
_EXECUTABLE = b"#!"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_names(names: Iterable[str]) -> None:
    """Raises BuildError for a name that would leave the job's directory or meet a file of execd's own."""
    for name in names:
        parts = name.split("/")
        if "\0" in name or not all(parts) or not {".", ".."}.isdisjoint(parts):
            raise BuildError(
                f"inputs: {name!r} is not a file name in the job's directory; expected for example data.txt or "
                "dir/data.txt: not absolute, no empty part, no . and no .."
            )
        if len(parts) > _DEEPEST:
            raise BuildError(f"inputs: {name[:40]!r}… has {len(parts)} parts; {_DEEPEST} are allowed")
        if parts[0] in _RESERVED:
            raise BuildError(f"inputs: {name!r}: {parts[0]} in the job's directory is execd's own; choose another name")


def place_inputs(
    inputs: Inputs, directory: int, sources: InputSources, time_limit: float, beat: Callable[[], object]
) -> Iterator[str]:
    """Writes the files into the new directory, a descriptor, and yields a line about each that is done.

    A file whose content begins with `#!` can be executed.  All of the sources together may take `time_limit` seconds; `beat` is
    called before each block of them.  Raises BuildError for what is the job's fault, a source that cannot be read included, and
    OSError when the files cannot be written.
    """
    deadline = time.monotonic() + time_limit
    for name, content in inputs.items():
        if isinstance(content, Source):
            size = _write(directory, name, _with_beats(blocks(content.source, sources, deadline), beat))
            yield f"input {name!r}: {size} bytes from {content.source!r}"
        else:
            whole = content.encode() if isinstance(content, str) else content
            yield f"input {name!r}: {_write(directory, name, iter((whole,)))} bytes"


def _with_beats(content: Iterable[bytes], beat: Callable[[], object]) -> Iterator[bytes]:
    beat()
    for block in content:
        yield block
        beat()


def _write(directory: int, name: str, content: Iterator[bytes]) -> int:
    """Makes the file; returns its size.  Names are UTF-8 whatever the daemon's locale."""
    first = next(content, b"")
    size = len(first)
    with open(_create(directory, name, executable=first.startswith(_EXECUTABLE)), "wb", buffering=0) as file:
        _write_all(file.fileno(), first)
        for block in content:
            _write_all(file.fileno(), block)
            size += len(block)
    return size


def _create(directory: int, name: str, *, executable: bool) -> int:
    *parents, last = name.encode().split(b"/")
    try:
        with ExitStack() as way:
            for parent in parents:
                directory = way.enter_context(opened(open_or_make(directory, parent)))
            return os.open(last, _NEW_FILE, 0o700 if executable else 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in _FAULT_OF_THE_NAME:
            raise
        raise BuildError(f"inputs: {name!r} cannot be a file beside the others: {error.strerror}; choose another name") from error


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
