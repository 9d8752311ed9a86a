"""The status of a job, and the only table of what may follow what.

Each status' comment says who moves a job out of it, and what becomes of the job when that process dies.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a job is in its life.  The words are those of Mobyle2."""

    INIT = "init"
    """A draft.  Its app moves it on; the engine never touches it."""

    TO_BE_BUILT = "to be built"
    """Wants a directory and a script.  A building actor claims it; until then nothing can be lost."""

    BUILDING = "building"
    """A building actor holds its lease.  When that dies, the next one builds the directory anew."""

    TO_BE_SUBMITTED = "to be submitted"
    """Built and routed, waits for a place.  A submit actor of its lane claims it."""

    SUBMITTING = "submitting"
    """The intent to submit is stored.  When the submit actor dies, the next one asks the system for the job by its name
    and adopts it, and submits again only if it is certain that it is not there."""

    SUBMITTED = "submitted"
    """The system has it (its native id is stored).  A status actor moves it on; its death changes nothing."""

    PENDING = "pending"
    """Waits in the system's own queue.  As `submitted`."""

    RUNNING = "running"
    """The command runs.  As `submitted`."""

    HOLD = "hold"
    """Held back on request, before its submission (a request actor releases it) or in the system's queue (a status actor)."""

    SUSPENDED = "suspended"
    """Its processes are stopped and can go on.  As `submitted`."""

    UNKNOWN = "unknown"
    """The system could not tell.  A status actor asks again; after the grace period the job ends in `error`."""

    FINISHED = "finished"
    """The command ended with exit code 0.  Final."""

    ERROR = "error"
    """The command, the system or the job's description failed; `exit` and `error` say why.  Final."""

    KILLED = "killed"
    """Ended on request.  Final."""


FINAL = frozenset({Status.FINISHED, Status.ERROR, Status.KILLED})
"""A sink: nothing changes the status of a job that has one of these.  Only a new attempt begins after it, see RETRIES."""

ON_SYSTEM = frozenset({Status.SUBMITTED, Status.PENDING, Status.RUNNING, Status.HOLD, Status.SUSPENDED, Status.UNKNOWN})
"""An execution system has the job (a job in `hold` only if it has a native id)."""

_S = Status

TRANSITIONS: dict[Status, frozenset[Status]] = {
    _S.INIT: frozenset({_S.TO_BE_BUILT}),
    _S.TO_BE_BUILT: frozenset({_S.BUILDING, _S.HOLD, _S.ERROR, _S.KILLED}),
    _S.BUILDING: frozenset({_S.TO_BE_SUBMITTED, _S.TO_BE_BUILT, _S.HOLD, _S.ERROR, _S.KILLED}),
    _S.TO_BE_SUBMITTED: frozenset({_S.SUBMITTING, _S.TO_BE_BUILT, _S.HOLD, _S.ERROR, _S.KILLED}),
    _S.SUBMITTING: (ON_SYSTEM | FINAL | {_S.TO_BE_SUBMITTED}) - {_S.SUSPENDED},
    **{status: (ON_SYSTEM | FINAL) - {status} for status in ON_SYSTEM - {_S.HOLD}},
    _S.HOLD: (ON_SYSTEM | FINAL | {_S.TO_BE_BUILT}) - {_S.HOLD},
    **{status: frozenset() for status in FINAL},
}

RETRY = "retry"

RETRIES: dict[Status, frozenset[Status]] = {status: frozenset({_S.TO_BE_BUILT}) for status in (_S.ERROR, _S.KILLED)}
"""How a job that has ended begins anew: a request actor does it, on the request `retry`, and counts a new attempt with the same
write.  A job that finished is never run again."""


def may_follow(old: Status, new: Status, *, new_attempt: bool = False) -> bool:
    """Whether a job may go from `old` to `new`.  `new_attempt`: the same write begins a new attempt."""
    return new in RETRIES.get(old, ()) if new_attempt else new in TRANSITIONS[old]


_WAITING = frozenset({_S.TO_BE_BUILT, _S.TO_BE_SUBMITTED, _S.BUILDING, _S.SUBMITTING})

REQUESTS: dict[str, frozenset[Status]] = {
    "kill": _WAITING | ON_SYSTEM,
    "hold": _WAITING | {_S.SUBMITTED, _S.PENDING},
    "release": frozenset({_S.HOLD}),
    "suspend": frozenset({_S.RUNNING}),
    "resume": frozenset({_S.SUSPENDED}),
    RETRY: frozenset(RETRIES),
}
"""What can be asked of a job, and in which statuses it makes sense."""
