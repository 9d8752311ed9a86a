"""Kinds of values on the command line: moments, durations, ranges, `NAME=VALUE`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from execution_engine.quantities import parse_duration, parse_size

_OUT_OF_RANGE = "the date is out of range"


def _moment(text: str, otherwise: str) -> datetime:
    """The date of an ISO 8601 text, in UTC; a text without a time zone is in the local one.

    Raises ValueError, which says what `otherwise` could have been given.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        expected = f"expected for example 2026-11-21T08:00, 2026-11-21T08:00:00Z, {otherwise}"
        raise ValueError(f"{text!r} is not a date; {expected}") from None
    try:
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(_OUT_OF_RANGE) from None


def parse_start(text: str, now: datetime) -> datetime:
    """When a job may start: a date, or `+10m`: so long from now.  Raises ValueError."""
    if text.strip().startswith("+"):
        return _moved(now, parse_duration(text.strip()[1:]))
    return _moment(text, "or +10m")


def parse_since(text: str, now: datetime) -> datetime:
    """How far to look back: a date, or `2h`: so long ago.  Raises ValueError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return _moment(text, "2h or 1d")
    return _moved(now, -seconds)


def _moved(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(_OUT_OF_RANGE) from None


# --- types of click options: functions that take a text (or the default) and raise click.BadParameter


limit = click.IntRange(min=0, max=1_000_000_000)
"""A number of results, 0 for all; no larger than every database takes."""


def job_id(value: str) -> str:
    """The beginning of an id.  An empty one, such as a script's unset variable, would be the beginning of every id."""
    if not value:
        raise click.BadParameter("an empty text is no id of a job")
    return value


def some_text(value: str) -> str:
    """A text that is not empty: an empty one, such as a script's unset variable, is nobody's name."""
    if not value:
        raise click.BadParameter("expected a text, found an empty one")
    return value


def duration(value: str | float) -> float:
    """Seconds, written as `30`, `2s` or `1h30m`."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def duration_text(value: str) -> str:
    """A duration, as it is written."""
    duration(value)
    return value


def size_text(value: str) -> str:
    """A size, as it is written."""
    try:
        parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def span(value: str | tuple[float, float]) -> tuple[float, float]:
    """Two numbers, `0..5`, or one that stands for both, none below 0."""
    if isinstance(value, tuple):
        return value
    low, dots, high = value.partition("..")
    try:
        bounds = float(low), float(high if dots else low)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a range; expected for example 0..5 or 3") from None
    if not 0 <= bounds[0] <= bounds[1] < float("inf"):
        raise click.BadParameter(f"{value!r}: expected two finite numbers, 0 or more, the second not below the first")
    return bounds


def name_value(value: str | tuple[str, str]) -> tuple[str, str]:
    """`NAME=VALUE`."""
    if isinstance(value, tuple):
        return value
    name, equals, rest = value.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{value!r} has no name or no =")
    return name, rest
