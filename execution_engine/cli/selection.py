"""Which jobs a command is about: the options that select some, the same for all commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Session
from execution_engine.jobs.status import Status

if TYPE_CHECKING:
    from execution_engine.client import Filter

_OPTIONS = (
    click.option("--status", "statuses", multiple=True, type=click.Choice([s.value for s in Status]), help="May be repeated."),
    click.option("--owner", type=parameters.some_text, help="Whose jobs."),
    click.option("--project", type=parameters.some_text, help="Of which project."),
    click.option("--system", type=parameters.some_text, help="On which execution system."),
    click.option("--tag", type=parameters.some_text, help="With which tag."),
    click.option(
        "--since",
        type=parameters.some_text,
        metavar="T",
        help="Created since: a date (2026-11-21T08:00), or so long ago (2h, 1d).",
    ),
)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options; their values are for `is_given` and `selection`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def is_given(conditions: Mapping[str, Any]) -> bool:
    """Whether any of the options was given."""
    return any(value not in (None, ()) for value in conditions.values())


def selection(session: Session, since: str | None, statuses: Sequence[str], **conditions: Any) -> Filter:
    """The jobs for which every given option holds."""
    from execution_engine.client import Filter

    try:
        moment = parameters.parse_since(since, session.clock.now()) if since else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    return Filter(statuses=tuple(map(Status, statuses)), since=moment, **conditions)
