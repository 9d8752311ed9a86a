"""What a keeper has to say to an administrator: lines in its log, its stderr, which grows no further than a limit."""

from __future__ import annotations

import contextlib
import os
import stat
import sys

LONGEST = 1 << 20
"""Bytes after which the log begins anew: a keeper lives for months, and its jobs can make it complain."""


def complain(text: str) -> None:
    """Writes a line.  A log on a full disk is nobody's business here."""
    with contextlib.suppress(OSError):
        bound_log()
        print(text, file=sys.stderr, flush=True)


def bound_log() -> None:
    """Empties a log that is too long.  Raises OSError."""
    log = os.fstat(sys.stderr.fileno())
    if stat.S_ISREG(log.st_mode) and log.st_size > LONGEST:
        os.ftruncate(sys.stderr.fileno(), 0)
