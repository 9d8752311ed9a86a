"""Inputs that a job names instead of giving them: files that the administrator allows, and URLs."""

from __future__ import annotations

import os
import stat
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from execution_engine.building.hurried import HttpHandler, HttpsHandler, patience
from execution_engine.config import InputSources
from execution_engine.errors import BuildError
from execution_engine.quantities import format_size

_BLOCK = 1 << 18


def blocks(source: str, rules: InputSources, deadline: float) -> Iterator[bytes]:
    """The content of `source` (an absolute path, or an http or https URL), block by block.

    Raises BuildError when the rules forbid it, it cannot be read, is larger than `rules.max_size`, or takes beyond `deadline`
    (monotonic seconds).
    """
    size = 0
    with closing(_open_url(source, rules, deadline) if _is_url(source) else _open_file(source, rules)) as stream:
        while block := _next_block(source, stream):
            size += len(block)
            if size > rules.max_size:
                limit = format_size(rules.max_size)
                raise BuildError(f"inputs: {source!r} is larger than {limit}; the administrator's key is inputs.max_size")
            if time.monotonic() > deadline:
                raise BuildError(
                    f"inputs: {source!r} takes too long; the administrator's key is engine.actor_deadline (half of it)"
                )
            yield block


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _open_file(source: str, rules: InputSources) -> FileIO:
    """The file, if it is below one of the allowed directories after all symbolic links are followed."""
    if not source.startswith("/"):
        raise BuildError(f"inputs: {source!r} is neither an absolute path nor an http or https URL")
    real = os.path.realpath(source)
    if not any(Path(real).is_relative_to(allowed.resolve()) for allowed in rules.paths):
        raise BuildError(f"inputs: {source!r} is not below a directory that is allowed; the administrator's key is inputs.paths")
    try:
        file = FileIO(real, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        raise BuildError(f"inputs: {source!r} cannot be read: {error.strerror}") from error
    # somebody may have put a link in place of a directory since the path was resolved
    opened = os.readlink(f"/proc/self/fd/{file.fileno()}")  # noqa: PTH115 - the link's own text
    if opened == real and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise BuildError(f"inputs: {source!r} is not a regular file")


def _open_url(source: str, rules: InputSources, deadline: float) -> Any:
    if not rules.urls:
        raise BuildError(f"inputs: {source!r}: URLs are not fetched here; the administrator's key is inputs.urls")
    try:
        return _opener(deadline).open(source, timeout=patience(deadline))
    except HTTPError as error:
        error.close()
        raise BuildError(f"inputs: {source!r} cannot be fetched: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise BuildError(f"inputs: {source!r} cannot be fetched: {_words(error)}") from error


def _next_block(source: str, stream: Any) -> bytes:
    """At most one system call's worth, so that a slow server cannot hold the reader beyond the deadline."""
    try:
        block: bytes = stream.read1(_BLOCK) if _is_url(source) else stream.read(_BLOCK)
    except (OSError, HTTPException, ValueError) as error:
        raise BuildError(f"inputs: {source!r} cannot be read to its end: {_words(error)}") from error
    if not block and getattr(stream, "length", None):
        raise BuildError(f"inputs: {source!r} ended {stream.length} bytes too early; try again")
    return block


def _opener(deadline: float) -> urllib.request.OpenerDirector:
    """Speaks http and https only, also after a redirection; uses the proxies of the daemon's environment."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        HttpHandler(deadline),
        HttpsHandler(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error) or type(error).__name__
