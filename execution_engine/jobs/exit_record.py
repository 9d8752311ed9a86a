"""The exit record: the one line by which a job script tells how its command ended, and how it is read.

A record is whole or it is not there: it is written in one piece and carries an end mark; a reader that does not find the mark
(a full disk, a network file system that shows the file late) takes it as absent and reads again later.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

RECORD = ".execd/exit"
START_MARKER = ".execd/started"
JOB_SCRIPT = ".execd/job_script"
END_MARK = "end"
_HEAD = "execd-exit-1"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a command ended.  Times are in seconds, `started` and `ended` since the epoch; None where the node could not tell."""

    code: int
    """The status as the shell gives it: 128 + n when signal n ended the command."""
    attempt: int
    host: str
    started: float | None = None
    ended: float | None = None
    wall: float | None = None
    cpu: float | None = None

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the command, by the shell's convention; None for a plain exit."""
        if self.code <= 128:
            return None
        try:
            return signal.Signals(self.code - 128).name
        except ValueError:
            return None


def read_exit_record(directory: Path) -> ExitRecord | None:
    """The record of the job in `directory`, or None when there is no whole one (yet)."""
    path = directory / RECORD
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        written = path.stat().st_mtime
    except OSError:
        return None
    words = text.split()
    if len(words) < 3 or words[0] != _HEAD or words[-1] != END_MARK or not text.endswith("\n"):
        return None
    fields = dict(word.split("=", 1) for word in words[1:-1] if "=" in word)
    try:
        return _record(fields, written)
    except (KeyError, ValueError):
        return None


def _record(fields: dict[str, str], written: float) -> ExitRecord:
    def number(name: str) -> float | None:
        return float(fields[name]) if fields.get(name) else None

    wall = number("wall")
    ended = number("ended") or written
    return ExitRecord(
        code=int(fields["code"]),
        attempt=int(fields.get("attempt") or 1),
        host=fields.get("host", ""),
        started=number("started") or (ended - wall if wall is not None else None),
        ended=ended,
        wall=wall,
        cpu=number("cpu"),
    )
