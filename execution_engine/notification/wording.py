"""Why a message did not get through, in words: what Python's libraries say of a connection names their classes."""

from __future__ import annotations

import re

_OF_PYTHON = re.compile(
    r"Max retries exceeded|Connection (aborted|broken)|Connection(Pool)?\(|^\[Errno \d+\]|^\w+(Error|Exception): "
)
_GENERAL = re.compile(r"^A Connection error occurred sending ", re.IGNORECASE)
_CAUSES = (
    (re.compile(r"NameResolutionError.*Failed to resolve '([^']*)'"), "no host of the name {}"),
    (re.compile(r"(?:read|connect) timeout=([\d.]+)"), "timed out: no answer within {:g} s"),
    (re.compile(r"\[SSL: \w+\] ([^(\"']*)"), "no connection by TLS: {}"),
    (re.compile(r"\[Errno \d+\] ([^\"')]+)"), "{}"),
    (re.compile(r"Error\(\d+, '([^']+)'"), "{}"),
    (re.compile(r"(RemoteDisconnected)"), "the connection was closed without an HTTP answer"),
    (re.compile(r"(BadStatusLine|IncompleteRead|InvalidChunk|LineTooLong|ProtocolError)"), "no HTTP answer"),
)


def is_of_a_connection(said: str) -> bool:
    """Whether a library says of a connection that it failed or ended, and no more."""
    return bool(_OF_PYTHON.search(said) or _GENERAL.match(said))


def in_words(said: list[str]) -> str:
    """The reasons, each once; that there was an error at all only where nothing tells which."""
    particular = [line for line in said if not _GENERAL.match(line)]
    return "; ".join(dict.fromkeys(map(_plain, particular or said)))


def _plain(said: str) -> str:
    """The cause in `said`, if that is of Python and one that is known; else `said`."""
    if not _OF_PYTHON.search(said):
        return said
    for cause, words in _CAUSES:
        if found := cause.search(said):
            what: float | str = float(found[1]) if "{:g}" in words else found[1].strip()
            return words.format(what[:1].lower() + what[1:] if isinstance(what, str) and "host" not in words else what)
    return said
