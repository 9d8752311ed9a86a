"""The standard streams: some may be closed (`execd start <&-`), and a terminal may not have all characters of this world."""

from __future__ import annotations

import io
import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed_streams() -> None:
    """Opens the null device in place of each standard stream that is closed.

    The next file that a process opens gets the lowest free descriptor: without this the database could become its standard
    output, and that of all processes that it starts.
    """
    for fd, (name, mode) in enumerate(_STREAMS):
        if _is_open(fd):
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, fd)
        if opened != fd:
            os.close(opened)
        setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8", closefd=False))


def escape_what_has_no_code() -> None:
    """Lets characters that the encoding of stdout or stderr does not have be written as `\\u4e16`, instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
