"""How jobs of a Local system ended, by what their keeper wrote down of them."""

from __future__ import annotations

import os
from pathlib import Path

from execution_engine.jobs.exit_record import JOB_SCRIPT, find_exit_record
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.quantities import format_duration, format_size
from execution_engine.systems.local_keeper.records import SCRIPT_LOG, UsageRecord

_END = 1 << 14


def final_status(job: Job, usage: UsageRecord) -> Status:
    """The status of a job that has ended."""
    if usage.reason == "killed":
        return Status.KILLED
    code = usage.code
    if code is None and (record := find_exit_record(Path(job.dir or "/nonexistent"), job.attempt)) is not None:  # an adopted job
        code = record.code
    return Status.FINISHED if code == 0 and usage.reason is None else Status.ERROR


def last_words(job: Job) -> str:
    """What the job script itself said last: for example that the disk is full."""
    try:
        lines = _end_of(f"{job.dir}/{SCRIPT_LOG}").splitlines()
    except OSError as error:
        return f"its directory cannot be read: {error.strerror}"
    said = [line for line in lines if line.startswith("execd: ")] or [line for line in lines if JOB_SCRIPT in line]
    return said[-1][:500] if said else ""


def _end_of(path: str) -> str:
    """The end of a file in whose place the job can have put anything."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, _END, max(0, os.fstat(descriptor).st_size - _END)).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def explain(job: Job, usage: UsageRecord) -> str:
    """What people are told beside the reason."""
    if usage.reason == "walltime":
        return f"ended after {format_duration(usage.wall)}, {format_duration(job.resources.walltime)} were allowed"
    if usage.reason == "memory":
        return f"used {format_size(usage.memory or 0)}, {format_size(job.resources.memory)} were allowed"
    if usage.code is None:
        return "its keeper was replaced while it ran: what it used is not fully known"
    return ""
