"""The table of jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Session, json_option, pass_session
from execution_engine.cli.output import (
    as_text,
    dig,
    height,
    local_text,
    on_terminal,
    print_json,
    print_table,
    rich_table,
    shortened,
)
from execution_engine.cli.wording import command_text, exit_word, run_time
from execution_engine.jobs.status import Status

if TYPE_CHECKING:
    from execution_engine.client import Client, Filter

Document = Mapping[str, Any]

_COLUMNS = ("ID", "NAME", "STATUS", "OWNER", "PROJECT", "SYSTEM", "CREATED", "TIME", "EXIT")
_ON_TERMINAL = 100
_LONGEST_ID = 40
"""Characters: a beginning is as good for all commands, and one long id must not make the table wide for all."""


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice([s.value for s in Status]), help="May be repeated.")
@click.option("--owner", help="Whose jobs.")
@click.option("--project", help="Of which project.")
@click.option("--system", help="On which execution system.")
@click.option("--tag", help="With which tag.")
@click.option("--since", metavar="T", help="Created since: a date (2026-11-21T08:00), or so long ago (2h, 1d).")
@click.option("--limit", type=click.IntRange(min=0), help=f"At most so many; default: all, {_ON_TERMINAL} on a terminal.")
@click.option("--watch", is_flag=True, help="Keep the table up to date, until Ctrl-C.")
@click.option("--interval", type=parameters.duration, default=1.0, help="Between two looks, with --watch; default: 1s.")
@json_option
@pass_session
def jobs(
    session: Session, /, since: str | None, limit: int | None, watch: bool, interval: float, as_json: bool, **conditions: Any
) -> None:
    """Show jobs, the newest first.

    \b
    Examples:
      execd jobs --status running --owner alice
      execd jobs --since 2h --watch
      execd jobs --status error --json | jq -r '.[]._id'
    """
    if watch and (as_json or not on_terminal()):
        raise click.UsageError("--watch needs a terminal, and does not go with --json.")
    selection = _selection(session, since, **conditions)
    with session.client() as client:
        if watch:
            _watch(session, client, selection, interval)
        elif as_json:
            print_json(client.find(selection, limit or 0))
        else:
            _print_jobs(session, client, selection, limit)


def _selection(session: Session, since: str | None, statuses: Sequence[str], **conditions: Any) -> Filter:
    from execution_engine.client import Filter

    try:
        moment = parameters.parse_since(since, session.clock.now()) if since else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    return Filter(statuses=tuple(map(Status, statuses)), since=moment, **conditions)


def _print_jobs(session: Session, client: Client, selection: Filter, limit: int | None) -> None:
    if limit is None and on_terminal():
        found = client.find(selection, _ON_TERMINAL + 1)
        print_table(_COLUMNS, _rows(found[:_ON_TERMINAL], session.clock.now()))
        if len(found) > _ON_TERMINAL:
            click.echo(f"There are more than these {_ON_TERMINAL}; --limit 0 shows all.", err=True)
    else:
        print_table(_COLUMNS, _rows(client.find(selection, limit or 0), session.clock.now()))


def _watch(session: Session, client: Client, selection: Filter, interval: float) -> None:
    """Shows as many jobs as the terminal has lines for, again and again.  Ctrl-C ends it."""
    from rich.live import Live

    try:
        with Live(screen=True, auto_refresh=False) as screen:
            while True:
                rows = _rows(client.find(selection, max(1, height() - 4)), session.clock.now())
                screen.update(rich_table(_COLUMNS, rows), refresh=True)
                time.sleep(max(0.1, interval))
    except KeyboardInterrupt:
        return


def _rows(documents: Iterable[Document], now: datetime) -> list[tuple[str, ...]]:
    return [
        (
            shortened(as_text(document.get("_id")), _LONGEST_ID),
            _label(document),
            as_text(document.get("status")),
            as_text(document.get("owner")),
            as_text(document.get("project")),
            as_text(dig(document, "execution.system")),
            local_text(dig(document, "times.created"), now if on_terminal() else None),
            run_time(document, now),
            exit_word(document),
        )
        for document in documents
    ]


def _label(document: Document) -> str:
    """The name, or the beginning of the command of a job that has none."""
    if name := document.get("name"):
        return as_text(name)
    return shortened(command_text(document), 40)
