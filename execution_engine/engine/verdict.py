"""What is true of a job that a system has: the exit record, the system's queue and its accounting brought together.

Pure functions.  Success needs a positive record: a job that left its system without one is `unknown` first, and an `error` after
the grace period.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from execution_engine.clock import from_timestamp
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job
from execution_engine.jobs.reasons import REASONS
from execution_engine.jobs.status import FINAL, Status
from execution_engine.systems.execution_systems import Account

GONE_WITHOUT_RECORD = "its system has it no longer, and there is no exit record (yet)"


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a job.  `status` None: the system was not asked, or could not answer."""

    record: ExitRecord | None
    status: Status | None
    account: Account | None = None
    started: bool = False
    """the start marker is there: the command has been started at least"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The job's new status, the fields that go with it, and why."""

    status: Status
    why: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def judge(job: Job, seen: Observed, now: datetime, grace: float) -> Verdict:
    """What becomes of the job."""
    if seen.record is not None:
        return _ended(job, seen.record, seen.account, now)
    if seen.status is None:
        return Verdict(job.status)
    if seen.status in FINAL or seen.status is Status.UNKNOWN:
        return _gone(job, seen, now, grace)
    fields = {"times.started": now} if seen.status is Status.RUNNING and job.times.started is None else {}
    return Verdict(seen.status, fields=fields)


def _ended(job: Job, record: ExitRecord, account: Account | None, now: datetime) -> Verdict:
    """The script wrote how the command ended; the system may know by whom."""
    reason = account.reason if account else None
    started = from_timestamp(record.started) if record.started else job.times.started
    ended = from_timestamp(record.ended) if record.ended else now
    usage = account.usage.model_dump() if account and account.usage else {}
    measured = {"wall": record.wall, "cpu": record.cpu, "host": record.host or None}
    fields: dict[str, Any] = {
        "times.started": started,
        "times.ended": ended,
        "usage": {"memory": None, **measured, **{key: value for key, value in usage.items() if value is not None}},
    }
    if record.code == 0 and reason is None and not record.in_prologue:
        return Verdict(Status.FINISHED, "exit code 0", {**fields, "exit": {"code": 0, "signal": None, "reason": None}})
    return _failed(job, record.code, record.signal, reason or _reason(job, record), account, fields)


def _gone(job: Job, seen: Observed, now: datetime, grace: float) -> Verdict:
    """The system has it no longer and there is no record: the system's own word, or the end of the grace period."""
    account = seen.account or Account()
    fields: dict[str, Any] = {"times.ended": now}
    if account.usage:
        fields["usage"] = account.usage.model_dump()
    if account.reason == "no exit record" and job.kill_sent:
        return _failed(job, None, None, "killed", account, fields)
    if account.reason or (account.code and account.settled):
        signal = ExitRecord(account.code, job.attempt, "").signal if account.code else None
        reason = account.reason or ("killed" if job.kill_sent else "signal" if signal else "exit code")
        return _failed(job, account.code, signal, reason, account, fields)
    if job.kill_sent:
        return _failed(job, None, None, "killed", account, fields)
    since = job.history[-1].at if job.status is Status.UNKNOWN and job.history else now
    if now - since < timedelta(seconds=grace):
        return Verdict(Status.UNKNOWN, GONE_WITHOUT_RECORD)
    if not account.settled:
        reason = "no exit record"
    elif account.presumed:  # also of a job that was seen running: a cluster says so before the script begins
        reason = account.presumed
    elif seen.started:
        reason = "node lost" if account.code != 0 else "no exit record"
    else:
        reason = "never started"
    return _failed(job, account.code, None, reason, account, fields)


def _failed(
    job: Job, code: int | None, signal: str | None, reason: str, account: Account | None, fields: dict[str, Any]
) -> Verdict:
    status = Status.KILLED if reason == "killed" and _kill_asked(job) else Status.ERROR
    message = REASONS.get(reason, reason)
    by_itself = f"exit code {code}, or " if reason == "signal" else ""  # a shell gives both the same code
    how = f"{by_itself}signal {signal}" if signal else f"exit code {code}" if code is not None else ""
    fields = {**fields, "exit": {"code": code, "signal": signal, "reason": reason}}
    if status is Status.ERROR and job.error is None:
        details = account.message if account and account.message else None
        told = f"{message} ({how})" if how and how not in message else message
        fields["error"] = {"kind": reason, "message": told, "details": details}
    return Verdict(status, f"{reason}{f', {how}' if how and how != reason else ''}", fields)


def _kill_asked(job: Job) -> bool:
    """Also when the actor that sent it died before it could store that it did."""
    return job.kill_sent or job.request == "kill"


def _reason(job: Job, record: ExitRecord) -> str:
    if job.kill_sent or (record.signal and _kill_asked(job)):
        return "killed"
    if record.signal:
        return "signal"
    if record.in_prologue:
        return "prologue failed"
    return {127: "command not found", 126: "command not executable"}.get(record.code, "exit code")
