"""The rules that execd brings along.

A pattern is a name, or one with `*`, `?` and `[…]` as in a shell; case counts.  A job that does not say how much memory or time
it may use answers no to "at least" as well as to "at most": nothing is known of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from execution_engine.clock import Clock
from execution_engine.job_routing import rules
from execution_engine.jobs.job import Job

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"(\d{1,2}):(\d{2})")


def _listed(given: object) -> object:
    """A single pattern is a list of one."""
    return [given] if isinstance(given, str) else given


def _minutes(text: str) -> int:
    """Minutes since midnight of `18:00`; `24:00` is the end of a day."""
    match = _TIME.fullmatch(text)
    if match is None or int(match[2]) > 59 or int(match[1]) * 60 + int(match[2]) > 24 * 60:
        raise ValueError(f"{text!r} is not a time of day; expected for example 8:00 or 18:30")
    return int(match[1]) * 60 + int(match[2])


def _days(given: str | list[str]) -> frozenset[int]:
    """Numbers of the days (Monday is 0) in `mon-fri`, `sat,sun` or a list of such."""
    found: set[int] = set()
    for word in given.split(",") if isinstance(given, str) else given:
        first, _, last = word.strip().lower().partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"{word.strip()!r} does not name days; expected for example mon-fri or sat,sun")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(found)


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone of this machine; expected for example Europe/Paris") from None


def _checked(read: Callable[[Any], Any]) -> AfterValidator:
    """Refuses what cannot be read, and keeps the text."""

    def check(given: Any) -> Any:
        read(given)
        return given

    return AfterValidator(check)


Patterns = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
TimeOfDay = Annotated[str, _checked(_minutes)]
Days = Annotated[str | list[str], _checked(_days)]
Zone = Annotated[str | None, _checked(_zone)]


def _matches(text: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


@rules.register
def owner(job: Job, names: Patterns) -> bool:
    """The job's owner is one of these patterns."""
    return _matches(job.owner, names)


@rules.register
def project(job: Job, names: Patterns) -> bool:
    """The job's project is one of these patterns."""
    return _matches(job.project, names)


@rules.register
def name(job: Job, names: Patterns) -> bool:
    """The job's name is one of these patterns."""
    return _matches(job.name, names)


@rules.register
def tag(job: Job, names: Patterns) -> bool:
    """At least one of the job's tags is one of these patterns."""
    return any(_matches(text, names) for text in job.tags)


@rules.register
def cores_at_least(job: Job, count: int) -> bool:
    """The job asks for so many cores or more."""
    return job.resources.cores >= count


@rules.register
def cores_at_most(job: Job, count: int) -> bool:
    """The job asks for so many cores or fewer."""
    return job.resources.cores <= count


@rules.register
def gpus_at_least(job: Job, count: int = 1) -> bool:
    """The job asks for so many graphics processors or more."""
    return job.resources.gpus >= count


@rules.register
def memory_at_least(job: Job, amount: rules.Size) -> bool:
    """The job asks for so much memory (`8G`) or more."""
    return job.resources.memory > 0 and job.resources.memory >= amount


@rules.register
def memory_at_most(job: Job, amount: rules.Size) -> bool:
    """The job asks for so much memory (`8G`) or less."""
    return 0 < job.resources.memory <= amount


@rules.register
def walltime_at_least(job: Job, duration: rules.Duration) -> bool:
    """The job may run for so long (`1h30m`) or longer."""
    return job.resources.walltime > 0 and job.resources.walltime >= duration


@rules.register
def walltime_at_most(job: Job, duration: rules.Duration) -> bool:
    """The job ends after so long (`1h30m`) or sooner."""
    return 0 < job.resources.walltime <= duration


@rules.register
def time_of_day(
    job: Job,
    start: TimeOfDay = "0:00",
    end: TimeOfDay = "24:00",
    days: Days = "mon-sun",
    timezone: Zone = None,
    *,
    clock: Clock,
) -> bool:
    """It is now between `start` and `end`, on one of these `days` (`mon-fri`, or `sat,sun`).

    By the machine's time zone, unless `timezone` names one (`Europe/Paris`).
    `start: 22:00, end: 6:00` goes over midnight; its `days` are those on which the night begins.
    """
    del job
    now = clock.now().astimezone(_zone(timezone))
    minutes, begin, finish = now.hour * 60 + now.minute, _minutes(start), _minutes(end)
    if begin < finish:
        return begin <= minutes < finish and now.weekday() in _days(days)
    if minutes >= begin:
        return now.weekday() in _days(days)
    return minutes < finish and (now - timedelta(days=1)).weekday() in _days(days)
