"""What a job script leaves in the job's directory, and how it is read: the start marker, a line; and the exit record, a line too,
after what the shell's `times` prints (processor time of the shell itself, then of the command and its children).  A second copy
of the script, which runs nothing, adds a line to a third file.  Before the engine says that a job never started it takes the
start marker itself (`execd-never-1`): a script that comes later finds it, and runs nothing.

    execd-start-1 attempt=1 pid=4711 host=node7 end

    execd-copy-1 attempt=1 pid=4712 host=node8 end

    execd-never-1 attempt=1 end

    0m0.000000s 0m0.010000s 0m2.400000s 0m0.030000s execd-exit-1 code=0 attempt=1 host=node7 end

The record is opened before the command starts, so it is empty while that runs.  It says `in=prologue` when the prologue of the
job's system ended and the command was not reached.  A job that takes away, moves or replaces its directory has another record
beside it, `.ID.ATTEMPT.exit`.

A line is whole or it is not there: it is written in one piece and carries an end mark; a reader that does not find the mark
(a full disk, a network file system that shows the file late) takes it as absent and reads again later.

A node without /proc leaves `host` empty.  When the files were written is when the command started and ended.  No time is written
into them: a shell reads /proc/uptime and /proc/self/stat one character at a time, which took a fifth of the time of a short job.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from execution_engine.descriptors import open_up

RECORD = ".execd/exit"
START_MARKER = ".execd/started"
COPIES = ".execd/copies"
READY = ".execd/ready"
"""Where the script notes that the prologue of the job's system came to its end."""
IN_PROLOGUE = "prologue"
"""In a record's field `in`: the command was not reached."""
JOB_SCRIPT = ".execd/job_script"
END_MARK = "end"
EXIT_HEAD = "execd-exit-1"
START_HEAD = "execd-start-1"
COPY_HEAD = "execd-copy-1"
NEVER_HEAD = "execd-never-1"
KEPT = "attempt-"
"""Beside these files, with a number: what an earlier attempt left, in the directory of a later one."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 4096
_WHOLE = re.compile(r"\d{1,15}", re.ASCII)
_TIMES = re.compile(r"(\d{1,9})m(\d{1,2}[.,]\d{1,9})s (\d{1,9})m(\d{1,2}[.,]\d{1,9})s", re.ASCII)
"""Some shells write the decimal point of the user's language."""
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
    in_prologue: bool = False
    """The prologue ended, not the command, which was never reached."""

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
    host: str
    at: float


def read_exit_record(directory: Path) -> ExitRecord | None:
    """The record of the job in `directory`, or None when there is no whole one (yet)."""
    return _exit_record(f"{directory}/{RECORD}", directory)


def _exit_record(path: str, directory: Path) -> ExitRecord | None:
    found = _read(path, EXIT_HEAD)
    if found is None:
        return None
    code, attempt = found.whole("code"), found.whole("attempt")
    if code is None or attempt is None or code > _HIGHEST_CODE:
        return None
    begun = _written(f"{directory}/{START_MARKER}")
    wall = None if begun is None else max(0.0, round(found.written - begun, 3))
    started = None if wall is None else found.written - wall
    in_prologue = found.fields.get("in") == IN_PROLOGUE
    return ExitRecord(code, attempt, found.fields.get("host", ""), started, found.written, wall, _cpu(found.before), in_prologue)


def find_exit_record(directory: Path, attempt: int) -> ExitRecord | None:
    """The record of a job that has ended, whatever became of its directory; None when there is no whole one (yet)."""
    record = read_exit_record(directory)
    if record is not None and record.attempt == attempt:
        return record
    return _exit_record(spare_record(directory, attempt), directory)


def spare_record(directory: Path, attempt: int) -> str:
    """Where the record is as well when the job's directory was taken away, moved or replaced."""
    return f"{directory.parent}/.{directory.name}.{attempt}.exit"


def read_start_marker(directory: Path) -> StartMarker | None:
    """The start marker of the job in `directory`, or None when there is no whole one (yet)."""
    found = _read(f"{directory}/{START_MARKER}", START_HEAD)
    if found is None:
        return None
    attempt, pid = found.whole("attempt"), found.whole("pid")
    if attempt is None or pid is None:
        return None
    return StartMarker(attempt, pid, found.fields.get("host", ""), found.written)


def prevent_start(directory: Path, attempt: int) -> bool:
    """Takes the start marker in place of this attempt's script, whose command then never starts.  False: it did start.

    Harmless when repeated, and to the attempts before and after.  A directory that its job has closed is opened up.  Raises
    OSError when the marker can be neither taken nor found.
    """
    try:
        return _prevent_start(directory, attempt)
    except PermissionError:
        open_up(None, str(directory), Path(START_MARKER).parent.name)
        return _prevent_start(directory, attempt)


def _prevent_start(directory: Path, attempt: int) -> bool:
    marker = Path(START_MARKER)
    try:
        whole = os.open(directory, _DIRECTORY)
        try:
            ours = os.open(marker.parent, _DIRECTORY, dir_fd=whole)
        finally:
            os.close(whole)
    except (FileNotFoundError, NotADirectoryError):
        return True  # nothing starts where there is no place for the marker
    try:
        if _is_in(ours, f"{KEPT}{attempt}") or (attempt > 1 and not _is_in(ours, f"{KEPT}{attempt - 1}")):
            return True  # the directory of another attempt
        _make_marker(ours, marker.name, f"{NEVER_HEAD} attempt={attempt} {END_MARK}\n")
    except FileExistsError:
        return is_prevented(directory)
    finally:
        os.close(ours)
    return True


def is_prevented(directory: Path) -> bool:
    """Whether the engine took the start marker."""
    return _read(f"{directory}/{START_MARKER}", NEVER_HEAD) is not None


def _is_in(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_marker(directory: int, name: str, line: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        if os.write(descriptor, line.encode()) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


def read_copies(directory: Path, attempt: int) -> list[str]:
    """The hosts (empty where a node could not tell) of the further copies of the job script that ended at once."""
    head = _head(f"{directory}/{COPIES}")
    lines = [] if head is None else head[0].split("\n")
    whole = [_fields(line.split()) for line in lines if line.startswith(f"{COPY_HEAD} ") and line.endswith(f" {END_MARK}")]
    return [fields.get("host", "") for fields in whole if fields.get("attempt") == str(attempt)]


def _fields(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


@dataclass(frozen=True, slots=True)
class _Line:
    """The last line of a file: its fields, the lines before it, and when it was written."""

    fields: dict[str, str]
    before: list[str]
    written: float

    def whole(self, name: str) -> int | None:
        text = self.fields.get(name, "")
        return int(text) if _WHOLE.fullmatch(text) else None


def _read(path: str, head: str) -> _Line | None:
    """The last line of a file; None unless it begins with the head and has its end mark."""
    found = _head(path)
    if found is None:
        return None
    text, written = found
    if not text.endswith(f" {END_MARK}\n"):
        return None
    *before, last = text[:-1].split("\n")
    first, *words = last.split()
    return _Line(_fields(words), before, written) if first == head else None


def _head(path: str) -> tuple[str, float] | None:
    """How a file begins, and when it was written; None when it cannot be read.

    The job can write here too: whatever it puts in place of the file must not make the reader wait, follow, or read for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _LONGEST).decode("utf-8", "replace"), os.fstat(descriptor).st_mtime
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _written(path: str) -> float | None:
    """When the file was written; None if there is none."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None


def _cpu(times: list[str]) -> float | None:
    """Seconds of the command and its children, user and system."""
    match = _TIMES.fullmatch(times[1]) if len(times) > 1 else None
    if match is None:
        return None
    minutes, seconds = match.group(1, 3), match.group(2, 4)
    return round(60 * sum(map(int, minutes)) + sum(float(part.replace(",", ".")) for part in seconds), 6)
