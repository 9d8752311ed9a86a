"""What Torque says about the end of a job, for as long as it keeps it (`keep_completed`).  Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Usage
from execution_engine.systems.execution_systems import Account
from execution_engine.systems.torque_commands import TorqueJob

_BY_SIGNAL = 256
_MEANINGS = {
    -1: "the execution failed before the files were there",
    -2: "the execution failed after the files were there",
    -3: "the execution failed, and should be tried again",
    -4: "the job was aborted when its node's pbs_mom started anew",
    -5: "the job was aborted when its node's pbs_mom started anew",
    -6: "the job was aborted when its node's pbs_mom started anew",
    -7: "the job could not be restarted",
    -8: "the command could not be executed",
    -9: "its output files could not be made",
    -10: "the job exceeded its memory limit",
    -11: "the job exceeded its walltime limit",
    -12: "the job exceeded its limit of processor time",
    -13: "its control groups could not be made",
    -14: "its prologue failed",
}
"""The negative values of `exit_status`: Torque's administrator guide, "Job exit status"; JOB_EXEC_… in its source."""
_LIMITS = {-10: "memory", -11: "walltime", -12: "cpu time"}
_NOT_RUN = {126: "the node may not execute the job script", 127: "the node does not see the job script"}
"""What a shell's exit code means where the script left no start marker."""
_ENDED_BY_TORQUE = frozenset({"SIGTERM", "SIGKILL"})


def account_of(jobs: Sequence[TorqueJob], *, started: bool, came_back: bool = False) -> Account | None:
    """The account of a job that has ended, from all entries of its name; None if there is none.

    There are several if a submission was repeated: the copies that found the start marker ended at once with 0, so that one that
    says more is the job's.  `started`: the start marker is there; `came_back`: a copy ended at once, which is the job itself
    where it was submitted once.
    """
    ended = [job for job in jobs if job.state == "C"]
    if not ended:
        return None
    if came_back and len(jobs) == 1 and ended[0].exit_status == 0:
        return Account("rerun", message=f"{ended[0].native_id} was started again, as by qrerun or when its node was lost")
    return _account(max(ended, key=lambda job: (job.exit_status not in (0, None), job.used.walltime or 0)), started)


def _account(job: TorqueJob, started: bool) -> Account:
    code, usage, message = job.exit_status, usage_of(job), _message(job)
    if code in _LIMITS:
        return Account(_LIMITS[code], None, usage, message)
    if code is None or code < 0:
        return Account("node lost" if started else "never started", message=message)
    if not started and (code in _NOT_RUN or code >= _BY_SIGNAL):
        return _not_started(job, code, message)
    if code < _BY_SIGNAL:
        return Account(None, code, usage, message, settled=False)
    return Account(None, 128 + code - _BY_SIGNAL, usage, message)


def _not_started(job: TorqueJob, code: int, message: str) -> Account:
    """A job is given to a node, and is `R`, before its script begins; somebody may delete it in between.

    Nothing is said for certain of a script that could not be run, whose marker may still come: a network file system shows new
    files after a while.
    """
    if code in _NOT_RUN:
        return Account(message=f"{message}; {_NOT_RUN[code]}", presumed="never started")
    return Account("killed by the system" if job.host else "never started", message=message)


def _message(job: TorqueJob) -> str:
    code = job.exit_status
    if code == 0:
        return ""
    meaning = _MEANINGS.get(code or 0, "")
    if code is not None and code >= _BY_SIGNAL:
        meaning = f"signal {code - _BY_SIGNAL} ended the job, as qdel does"
    told = "no exit_status" if code is None else f"exit_status {code}{f', {meaning}' if meaning else ''}"
    return f"Torque says: {told}{f' ({job.comment})' if job.comment else ''}"


def exceeded(jobs: Sequence[TorqueJob], record: ExitRecord) -> Account | None:
    """The limit for which Torque ended a command that had the time to be recorded; None if it was none.

    Torque sends SIGTERM first.  It may not know the job's exit_status yet; then the limit shows in what the job used.
    """
    if record.signal not in _ENDED_BY_TORQUE:
        return None
    for job in jobs:
        if job.exit_status in _LIMITS:
            return Account(_LIMITS[job.exit_status], usage=usage_of(job), message=_message(job))
        if reason := _used_up(job, record.wall or 0):
            return Account(reason, usage=usage_of(job), message=f"Torque ended the job at its limit of {reason}")
    return None


def _used_up(job: TorqueJob, wall: float) -> str | None:
    limits, used = job.limits, job.used
    if limits.walltime and max(wall + 1, used.walltime or 0) >= limits.walltime:  # Torque's clock starts before the command
        return "walltime"
    if limits.cput and (used.cput or 0) >= limits.cput:
        return "cpu time"
    over = (limits.mem and (used.mem or 0) > limits.mem) or (limits.vmem and (used.vmem or 0) > limits.vmem)
    return "memory" if over else None


def usage_of(job: TorqueJob) -> Usage:
    """What the job used, as far as Torque has sampled it."""
    return Usage(wall=job.used.walltime, cpu=job.used.cput, memory=job.used.mem, host=job.host or None)
