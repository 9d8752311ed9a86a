"""What a job script leaves in the job's directory: the start marker and the exit record, a line each, and how they are read.

    execd-start-1 attempt=1 pid=4711 start=1234567 host=node7 end
    execd-exit-1 code=0 attempt=1 host=node7 began=9876.54 ended=9879.01 cutime=240 cstime=3 end

A line is whole or it is not there: it is written in one piece and carries an end mark; a reader that does not find the mark
(a full disk, a network file system that shows the file late) takes it as absent and reads again later.

`start` is the start time of the script's process in clock ticks since the machine's boot (field 22 of /proc/PID/stat), `began`
and `ended` are seconds since the boot, `cutime` and `cstime` clock ticks of the command and its children.  A node without /proc
leaves them and `host` empty. When the files were written is when the command started and ended.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

RECORD = ".execd/exit"
START_MARKER = ".execd/started"
JOB_SCRIPT = ".execd/job_script"
END_MARK = "end"
EXIT_HEAD = "execd-exit-1"
START_HEAD = "execd-start-1"

_LONGEST = 4096
_TICKS_PER_SECOND = 100
"""What Linux shows to programs as its clock tick, on every machine where a job would run."""
_WHOLE = re.compile(r"\d{1,15}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
_HIGHEST_CODE = 255


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


@dataclass(frozen=True, slots=True)
class StartMarker:
    """Which process runs, or ran, the job script.  `at`: when it began, seconds since the epoch."""

    attempt: int
    pid: int
    start_time: int | None
    """of the process, in clock ticks since the machine's boot; with `pid` and `host` it names the process for good"""
    host: str
    at: float


def read_exit_record(directory: Path) -> ExitRecord | None:
    """The record of the job in `directory`, or None when there is no whole one (yet)."""
    line = _read(directory / RECORD, EXIT_HEAD)
    if line is None:
        return None
    fields, written = line
    code, attempt = _whole(fields, "code"), _whole(fields, "attempt")
    if code is None or attempt is None or code > _HIGHEST_CODE:
        return None
    wall = _difference(_decimal(fields, "began"), _decimal(fields, "ended"))
    if wall is None and (marker := read_start_marker(directory)) is not None:
        wall = _difference(marker.at, written)
    return ExitRecord(
        code=code,
        attempt=attempt,
        host=fields.get("host", ""),
        started=None if wall is None else written - wall,
        ended=written,
        wall=wall,
        cpu=_cpu(fields),
    )


def read_start_marker(directory: Path) -> StartMarker | None:
    """The start marker of the job in `directory`, or None when there is no whole one (yet)."""
    line = _read(directory / START_MARKER, START_HEAD)
    if line is None:
        return None
    fields, written = line
    attempt, pid = _whole(fields, "attempt"), _whole(fields, "pid")
    if attempt is None or pid is None:
        return None
    return StartMarker(attempt, pid, _whole(fields, "start"), fields.get("host", ""), written)


def _read(path: Path, head: str) -> tuple[dict[str, str], float] | None:
    """The fields of the file's line and when it was written; None unless it is a plain file that holds one whole line.

    The job can write here too: whatever it puts in place of the file must not make the reader wait or follow.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, _LONGEST).decode("utf-8", "replace")
        written = os.fstat(descriptor).st_mtime
    except OSError:
        return None
    finally:
        os.close(descriptor)
    words = text.split()
    if not text.endswith(f" {END_MARK}\n") or words[0] != head:
        return None
    return dict(word.split("=", 1) for word in words if "=" in word), written


def _whole(fields: dict[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    return int(text) if _WHOLE.fullmatch(text) else None


def _decimal(fields: dict[str, str], name: str) -> float | None:
    text = fields.get(name, "")
    return float(text) if _DECIMAL.fullmatch(text) else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, round(after - before, 3))


def _cpu(fields: dict[str, str]) -> float | None:
    user, system = _whole(fields, "cutime"), _whole(fields, "cstime")
    return None if user is None or system is None else (user + system) / _TICKS_PER_SECOND
