"""What a Grid Engine accounting record says about the end of a job.  Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from execution_engine.jobs.job import Usage
from execution_engine.systems.execution_systems import Account
from execution_engine.systems.ogs_commands import Record

_NEVER_STARTED = frozenset({1, 3, 4, 6, 7, 8, 9, 10, 11, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 38})
_BY_SIGNAL = frozenset({17, 100})
_RESCHEDULED = 25
_LIMIT = 37
_RAN = frozenset({0, 12, 13, 14, 15, 16, 30})
"""Codes of `failed`, sge_status(5): the job never started; a signal ended it; a limit did; it ran, whatever went wrong after it.
Of all others (the shepherd died, the job was moved) nothing is known but that the queue has it no longer."""


def account_of(records: Sequence[Record], *, came_back: bool = False) -> Account | None:
    """The account of a job from its records, the oldest first; None if there is none.  `came_back`: a copy of it ended at once.

    There are several if a submission was repeated: the copies that found the start marker ended at once with 0, so that one that
    says more is the job's.
    """
    if not records:
        return None
    best = max(records, key=lambda record: (record.failed != 0, record.exit_status != 0, record.wall or 0))
    if came_back and best.failed == _RESCHEDULED:
        message = f"job {best.native_id} was rescheduled while it ran, as by qmod -rj or when its node was lost"
        return Account("rerun", message=message)
    return _account(best)


def _account(record: Record) -> Account:
    message = f"Grid Engine's accounting: failed {record.failed}, {record.failure}" if record.failed else ""
    usage = Usage(wall=record.wall, cpu=record.cpu, memory=record.memory, host=record.host or None)
    if record.failed in _NEVER_STARTED:
        return Account("never started", message=message)
    if record.failed == _LIMIT:
        return Account(_limit(record), record.exit_status, usage, message)
    if record.failed in _BY_SIGNAL and (record.cpu or 0) >= record.limits.get("h_cpu", math.inf) * record.slots:
        return Account("cpu time", record.exit_status, usage, message)
    if record.failed in _BY_SIGNAL:
        return Account(None, record.exit_status, usage, message)
    if record.failed in _RAN:
        return Account(None, record.exit_status, usage, message, settled=False)
    return Account(None, None, usage, message)


def _limit(record: Record) -> str:
    """Which limit was exceeded: Grid Engine does not tell h_rt from h_vmem.  Without a request it was one of the queue."""
    wanted = record.limits
    if "h_rt" in wanted and (record.wall or 0) >= wanted["h_rt"]:
        return "walltime"
    return "memory" if "h_vmem" in wanted else "walltime"
