"""What becomes of a job whose process died: of an actor, of a whole engine, or of the engine that ran here before.  One table.

Who finds out that a process is dead differs (the monitor reaps its actors; an engine's start finds the one before; the registry
shows which engines stand still), what is done then does not: the leases of the dead end, and each job is due as this table says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status


class Due(StrEnum):
    """When somebody takes up a job whose lease was ended."""

    AT_ONCE = "at once"
    WITH_ITS_SYSTEM = "when its system is asked next"
    UNTIL_TOLD = "at once, if its owner has not been told"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is done about a job."""

    holder: str
    """who may have died with it"""
    due: Due
    then: str
    """what the next one does with it"""


BEGINS: dict[Status, Status] = {
    Status.TO_BE_BUILT: Status.BUILDING,
    Status.TO_BE_SUBMITTED: Status.SUBMITTING,
}
"""A claim that begins such work stores that it does; a job that is found so has lost its actor, and is claimed again as it is."""

BEGUN = frozenset(BEGINS.values())

_WAITING = Recovery("a request actor", Due.AT_ONCE, "what was asked for is carried out; if nothing was, it goes on as before")
_ON_SYSTEM = Recovery(
    "a status or request actor",
    Due.WITH_ITS_SYSTEM,
    "nothing was lost: the system is asked again, and a request is carried out again",
)
_ENDED = Recovery(
    "a notification or request actor",
    Due.UNTIL_TOLD,
    "its owner is told again, with the same idempotency key, or its retry is begun again; its status stays",
)

RECOVERY: dict[Status, Recovery] = {
    Status.INIT: Recovery("nobody", Due.NEVER, "nothing: a draft is its app's"),
    Status.TO_BE_BUILT: _WAITING,
    Status.BUILDING: Recovery(
        "a building actor", Due.AT_ONCE, "its directory is built anew, but not one in which its command was started"
    ),
    Status.TO_BE_SUBMITTED: _WAITING,
    Status.SUBMITTING: Recovery(
        "a submit actor",
        Due.AT_ONCE,
        "its system is asked for it by its name: it is adopted, or submitted again if it is certainly not there",
    ),
    **dict.fromkeys(ON_SYSTEM, _ON_SYSTEM),
    **dict.fromkeys(FINAL, _ENDED),
}
