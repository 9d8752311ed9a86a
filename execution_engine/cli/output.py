"""Words for a terminal: JSON, facts, progress bars.  Neither rich nor the terminal interprets what a job brought along."""

from __future__ import annotations

import base64
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import click

from execution_engine.quantities import format_duration


def harmless(text: str) -> str:
    """The text with every character that a terminal could take as a command (or hide) made visible: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def dig(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of a document, or None: documents come from anywhere and may hold anything."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def entries(document: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    """The documents in a list of the document; whatever else is there is left out."""
    value = dig(document, path)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


def amount(value: Any) -> float | None:
    """A number of seconds or bytes that is one: finite, and not below 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return value


def as_text(value: Any) -> str:
    """A value in a table: nothing for None."""
    return "" if value is None else str(value)


# --- for programs


def print_json(value: Any) -> None:
    """Prints a value as JSON: ids as strings, dates as ISO 8601 in UTC, bytes as base64."""
    click.echo(json.dumps(_plain(value), indent=2 if on_terminal() else None))


def print_json_array(values: Iterable[Any]) -> None:
    """Prints values as one JSON array, each when it comes."""
    before = "["
    for value in values:
        click.echo(before + json.dumps(_plain(value), indent=2 if on_terminal() else None), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[" else "]")


def print_json_lines(values: Iterable[Any]) -> None:
    """Prints values as JSON, each in a line of its own, when it comes."""
    for value in values:
        click.echo(json.dumps(_plain(value)))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


# --- for people


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    with suppress(OverflowError):
        moment = _aware(moment).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _aware(moment: datetime) -> datetime:
    """The date with a time zone: a database gives dates in UTC, some without saying so."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def local_text(moment: Any, today: datetime | None = None) -> str:
    """A date (also as ISO 8601 or seconds since the epoch) for a person: in the terminal's time zone, to the second.

    The time alone for one of the day of `today`.
    """
    if isinstance(moment, str):
        with suppress(ValueError):
            moment = datetime.fromisoformat(moment)
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        with suppress(ValueError, OverflowError, OSError):
            moment = datetime.fromtimestamp(moment, UTC)
    if not isinstance(moment, datetime):
        return as_text(moment)
    try:
        local = _aware(moment).astimezone()
    except (ValueError, OverflowError, OSError):
        return utc_text(moment)  # at an end of the calendar, where the terminal's time zone would leave it
    if today is not None and local.date() == today.astimezone().date():
        return f"{local:%H:%M:%S}"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def span_text(start: Any, end: Any) -> str:
    """The time between two dates, for a person; nothing where one of them is none."""
    if not (isinstance(start, datetime) and isinstance(end, datetime)):
        return ""
    return format_duration(max(0.0, (_aware(end) - _aware(start)).total_seconds()))


def print_facts(facts: Mapping[str, str]) -> None:
    """Prints names and their values, a line each, empty values left out; a value of several lines is indented below its name."""
    shown = {name: value for name, value in facts.items() if value}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name.ljust(width)}  {harmless(first)}")
        for line in rest:
            click.echo(f"{'':{width}}  {harmless(line)}")


def height() -> int:
    """Lines of the terminal."""
    return shutil.get_terminal_size().lines


@contextmanager
def progress(what: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr, if that is a terminal.  Gives a function that takes how many are done, and a remark."""
    if not (shown and sys.stderr.isatty()):
        yield lambda _done, _remark: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, remark="")
        yield lambda done, remark: bar.update(task, completed=done, remark=remark)
