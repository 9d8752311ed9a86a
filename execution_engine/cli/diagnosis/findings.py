"""What a check finds: how bad it is, how to mend it, and the repair that can do no harm, where there is one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

_SHOWN = 5


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """worth knowing; nothing is harmed"""
    PROBLEM = "PROBLEM"
    """something does not work, or will not"""


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that mends a finding, looks again before it changes anything, and is harmless when repeated."""

    question: str
    """what the person is asked"""
    carry_out: Callable[[], str]
    """does it, and says what was done; raises ExecdError or OSError"""
    lane: str | None = None
    """the lane that is given up: not safe, so nobody's but a person's to decide, who names it or is asked"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what came of it."""

    what: str
    level: Level
    message: str
    mend: str = ""
    """what a person can do about it"""
    examples: tuple[str, ...] = ()
    """some of the jobs, files or processes that it is about"""
    repair: Repair | None = None


def well(what: str, message: str) -> Finding:
    """Nothing is wrong."""
    return Finding(what, Level.OK, message)


def warning(what: str, message: str, mend: str = "", examples: Collection[object] = (), repair: Repair | None = None) -> Finding:
    """Worth knowing."""
    return Finding(what, Level.WARNING, message, mend, tuple(map(str, examples)), repair)


def problem(what: str, message: str, mend: str = "", examples: Collection[object] = (), repair: Repair | None = None) -> Finding:
    """Something is wrong."""
    return Finding(what, Level.PROBLEM, message, mend, tuple(map(str, examples)), repair)


def number(count: int, what: str) -> str:
    """`1 job`, `2 jobs`, `2 directories`, `2 indexes`."""
    if count == 1:
        return f"1 {what}"
    return f"{count:,} {what[:-1]}ies" if what.endswith("y") else f"{count:,} {what}{'es' if what.endswith(('s', 'x')) else 's'}"


def some(examples: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(examples[:_SHOWN])
    return shown if len(examples) <= _SHOWN else f"{shown} and {len(examples) - _SHOWN:,} more"
