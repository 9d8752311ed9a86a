"""What the keeper writes into a job's directory: the file `.execd/process` says which process the job is, and what it used.

Lines of JSON, each appended in one piece; a line without its end is taken as absent; of two of a kind the last counts.  One
file for both, because to create a file is the dearest thing that the keeper does for a job.
"""

# ruff: noqa: PTH118 - pathlib would cost the keeper a megabyte

from __future__ import annotations

import errno
import json
import os
from typing import Any, NamedTuple

from execution_engine.systems.local_keeper.processes import Identity

RECORDS = ".execd/process"
SCRIPT_LOG = ".execd/build.log"
"""Where the job script's own messages go (not its command's): to those of the building of the job."""

TRANSIENT = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
)
"""Errors of the machine, not of the job: the same may succeed later."""
_MAX_SIZE = 20_000
_HARMLESS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A job may have put a link or a pipe in the place of a file: it must not lead elsewhere or block."""


class Order(NamedTuple):
    """A job as a keeper is told about it."""

    directory: str
    attempt: int
    walltime: float
    """seconds, 0: not limited"""
    memory: int
    """bytes, 0: not limited"""
    kill_delay: float
    """seconds from SIGTERM to SIGKILL"""
    cores: int = 1
    """slots that it takes"""


class ProcessRecord(NamedTuple):
    """Which process a job is."""

    pid: int
    start: int
    boot: str
    """the machine's boot id; after a reboot the other two mean nothing"""
    attempt: int
    keeper: str
    """the identity of the keeper that looks after it"""
    home: str = ""
    """which system's keeper that is, of the many that a machine may have"""
    cores: int = 1
    """slots that it takes"""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start)


class UsageRecord(NamedTuple):
    """How a job ended and what it used.  Seconds and bytes; None: not known, because the keeper was not its parent."""

    attempt: int
    pid: int
    start: int
    code: int | None
    """exit status of the job script, 128 + n for signal n"""
    reason: str | None
    """walltime, memory or killed: the first cause for which the keeper ended it"""
    cpu: float | None
    memory: int | None
    """peak of the largest process (at least the keeper's own size, some 13 MB: nothing less can be told), or, for a job with a
    limit, the highest sum of all processes that was seen"""
    wall: float
    started: float
    ended: float
    """seconds since the epoch"""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start)

    @property
    def signalled(self) -> bool:
        """Whether a signal ended the job script itself, which then could not write its record."""
        return self.code is not None and self.code > 128


class Records(NamedTuple):
    """What the directory tells of one attempt of a job."""

    process: ProcessRecord | None = None
    usage: UsageRecord | None = None


def append(directory: str, record: ProcessRecord | UsageRecord) -> None:
    """Raises OSError; nothing is written then."""
    _append(os.path.join(directory, RECORDS), record)


def append_beside(directory: str, record: UsageRecord) -> None:
    """The same beside the directory: the job has taken that away, moved or replaced it.  Raises OSError."""
    _append(_beside(directory, record.attempt), record)


def _beside(directory: str, attempt: int) -> str:
    parent, name = os.path.split(directory)
    return f"{parent}/.{name}.{attempt}.process"


def _append(path: str, record: ProcessRecord | UsageRecord) -> None:
    line = json.dumps({_KINDS[type(record)]: record._asdict()}).encode("ascii") + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _HARMLESS, 0o600)
    try:
        written = os.write(descriptor, line)
        if written != len(line):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def read(directory: str, attempt: int) -> Records:
    """The records of this attempt.  What is not a record is passed over: a job can write there."""
    return _latest(_records(os.path.join(directory, RECORDS)), attempt)


def read_last(directory: str, attempt: int) -> Records:
    """As `read`, of a job that has ended, whatever became of its directory."""
    records = read(directory, attempt)
    if records.usage is None:
        usage = _latest(_records(_beside(directory, attempt)), attempt).usage
        records = records._replace(usage=usage)
    return records


def _latest(found: list[ProcessRecord | UsageRecord], attempt: int) -> Records:
    records = [record for record in found if record.attempt == attempt]
    process = [record for record in records if isinstance(record, ProcessRecord)]
    usage = [record for record in records if isinstance(record, UsageRecord)]
    return Records(process[-1] if process else None, usage[-1] if usage else None)


def latest_process(directory: str) -> ProcessRecord | None:
    """What is known of the job's process, whichever attempt it is."""
    return next(
        (record for record in reversed(_records(os.path.join(directory, RECORDS))) if isinstance(record, ProcessRecord)), None
    )


def _records(path: str) -> list[ProcessRecord | UsageRecord]:
    records: list[ProcessRecord | UsageRecord] = []
    for line in _lines(path):
        try:
            ((kind, fields),) = json.loads(line).items()
            records.append(_read_process(fields) if kind == "process" else _read_usage(fields))
        except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
            continue
    return records


def _lines(path: str) -> list[bytes]:
    """The whole lines of the file, none when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _HARMLESS)
    except OSError:
        return []
    try:
        return os.read(descriptor, _MAX_SIZE).split(b"\n")[:-1]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _read_process(fields: dict[str, Any]) -> ProcessRecord:
    return ProcessRecord(
        pid=int(fields["pid"]),
        start=int(fields["start"]),
        boot=str(fields["boot"]),
        attempt=int(fields["attempt"]),
        keeper=str(fields["keeper"]),
        home=str(fields.get("home", "")),
        cores=int(fields.get("cores", 1)),
    )


def _read_usage(fields: dict[str, Any]) -> UsageRecord:
    record = UsageRecord(**fields)
    if not all(value is None or isinstance(value, int | float) for name, value in fields.items() if name != "reason"):
        raise ValueError("not a number")
    return record


_KINDS: dict[type, str] = {ProcessRecord: "process", UsageRecord: "usage"}
