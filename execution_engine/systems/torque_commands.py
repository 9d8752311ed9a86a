"""The commands of Torque: each as the words to run and the meaning of what it prints.  Nothing is run here.

After the manual pages and the source of Torque 6.1: qstat(1B), qselect(1B), pbs_job_attributes(7B), pbs_resources(7B).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

from execution_engine.jobs.status import Status

IS_THERE = ("qstat", "-B")
"""Asks the server for its own status: a table with a line for it, if it answers."""

JOBS = ("qstat", "-f", "-x")
"""Lists all jobs of everybody that the server lets its caller see, those that ended not long ago included.

One request to the server.  Given a list of ids, qstat would ask about each on its own."""


def named(name: str, owner: str) -> tuple[str, ...]:
    """Prints the ids of the jobs of exactly this name that this account submitted, also of those that have ended; nothing if
    there are none."""
    return ("qselect", "-u", owner, "-N", name)


def named_and(state: str, name: str, owner: str) -> tuple[str, ...]:
    """As `named`, only those in this state: C, E, H, Q, R, T or W.  qselect knows no S: a suspended job has no state for it."""
    return (*named(name, owner), "-s", state)


def delete(native_id: str) -> tuple[str, ...]:
    """Ends a job: SIGTERM, and SIGKILL a little later."""
    return ("qdel", native_id)


def hold(native_id: str) -> tuple[str, ...]:
    """Keeps a job from starting; does nothing to one that runs."""
    return ("qhold", native_id)


def release(native_id: str) -> tuple[str, ...]:
    """Takes back `hold`."""
    return ("qrls", native_id)


def suspend(native_id: str) -> tuple[str, ...]:
    """Stops a running job where it is.  For operators and managers of the server only, as is `resume`."""
    return ("qsig", "-s", "suspend", native_id)


def resume(native_id: str) -> tuple[str, ...]:
    """Takes back `suspend`."""
    return ("qsig", "-s", "resume", native_id)


NOT_ALLOWED = 159
REFUSALS = frozenset({156, 157, NOT_ALLOWED, 167, 168, 169, 170, 183})
"""Exit codes of commands that say that the server will not do this with this job: they are the number of the error & 255.

pbs_error_db.h: IVALREQ, UNKREQ, PERM, UNKSIG, BADATVAL, MODATRRUN, BADSTATE, NOSUP.  All others, such as 224 (the server has no
contact to the node) and 153 (it does not know the job, which it lists), say nothing about the job."""

# --- states

_STATES = {
    "E": Status.RUNNING,
    "H": Status.HOLD,
    "Q": Status.PENDING,
    "R": Status.RUNNING,
    "S": Status.SUSPENDED,
    "T": Status.PENDING,
    "W": Status.PENDING,
}
"""pbs_job_attributes(7B), `job_state`; `C`, completed, is in qstat(1B).  `E` is no error: the job is being ended."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Resources that a job asked for or has used: seconds and bytes; None where nothing is said."""

    walltime: float | None = None
    cput: float | None = None
    mem: int | None = None
    vmem: int | None = None


@dataclass(frozen=True, slots=True)
class TorqueJob:
    """A job as qstat lists it."""

    native_id: str
    name: str
    state: str
    exit_status: int | None = None
    """how it ended; negative when Torque itself ended it or could not start it"""
    host: str = ""
    comment: str = ""
    """Torque's or its scheduler's words"""
    used: Amounts = field(default_factory=Amounts)
    limits: Amounts = field(default_factory=Amounts)
    owner: str = ""
    """the account that submitted it"""

    @property
    def status(self) -> Status | None:
        """What the state means; None if it means nothing that is known here.  How a completed job ended, its record tells."""
        if self.state == "C":
            return Status.FINISHED if self.exit_status == 0 else Status.ERROR
        return _STATES.get(self.state)


# --- the queue


class Unreadable(ValueError):
    """What a command printed is not whole, or not what it should be."""


_WHOLE = re.compile(r"\s*(?:<\?xml[^>]*\?>)?\s*(?:<Data\s*/>|<Data>(.*)</Data>)\s*", re.DOTALL)
_NOTHING = re.compile(r"\s*(?:<\?xml[^>]*\?>)?\s*")
_JOB = re.compile(r"<Job>(.*?)</Job>", re.DOTALL)
_VALUE = re.compile(r"<(Job_Id|Job_Name|Job_Owner|job_state|exit_status|exec_host|comment)>([^<]*)</\1>")
_SECTION = re.compile(r"<(resources_used|Resource_List)>(.*?)</\1>", re.DOTALL)
_AMOUNT = re.compile(r"<(walltime|cput|mem|vmem)>([^<]*)</\1>")


def read_jobs(text: str) -> list[TorqueJob]:
    """The jobs that `JOBS` listed.  Raises Unreadable.

    It is no XML: Torque leaves `&` and control characters as they are, and puts character 14 in place of `<`.  A parser for XML
    would be blinded by anybody's job.  No job at all is nothing at all, or an empty element.
    """
    if _NOTHING.fullmatch(text):
        return []
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        raise Unreadable("qstat printed no whole list of jobs")
    jobs = whole[1] or ""
    if _JOB.sub("", jobs).strip():
        raise Unreadable("qstat printed something between the jobs")
    return [_job(block) for block in _JOB.findall(jobs)]


def _job(block: str) -> TorqueJob:
    values: dict[str, str] = dict(_VALUE.findall(block))
    amounts = {name: _amounts(dict(_AMOUNT.findall(section))) for name, section in _SECTION.findall(block)}
    try:
        return TorqueJob(
            native_id=values["Job_Id"],
            name=unescape(values["Job_Name"]),
            state=values["job_state"],
            owner=unescape(values.get("Job_Owner", "")).rpartition("@")[0],
            exit_status=int(values["exit_status"]) if "exit_status" in values else None,
            host=values.get("exec_host", "").partition("/")[0],
            comment=unescape(values.get("comment", "")),
            used=amounts.get("resources_used", Amounts()),
            limits=amounts.get("Resource_List", Amounts()),
        )
    except (KeyError, ValueError) as error:
        raise Unreadable(f"qstat printed a job that is not whole: {error!r}") from None


def _amounts(values: dict[str, str]) -> Amounts:
    walltime, cput = (_seconds(values.get(name, "")) for name in ("walltime", "cput"))
    mem, vmem = (_bytes(values.get(name, "")) for name in ("mem", "vmem"))
    return Amounts(walltime, cput, mem, vmem)


_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", re.ASCII)
_SIZE = re.compile(r"(\d+)([kmgtp]?)([bw]?)", re.ASCII | re.IGNORECASE)
_WORD = 8


def _seconds(text: str) -> float | None:
    """`[[hours:]minutes:]seconds[.milliseconds]`, pbs_resources(7B)."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def _bytes(text: str) -> int | None:
    """`2gb`, `512`: bytes, or words, pbs_resources(7B)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    words = _WORD if match[3].lower() == "w" else 1
    return int(match[1]) * words << 10 * " kmgtp".index(match[2].lower() or " ")
