"""The table of jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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
from execution_engine.cli.selection import selection, selection_options
from execution_engine.cli.wording import command_text, exit_word, run_time

if TYPE_CHECKING:
    from execution_engine.client import Client, Filter

Document = Mapping[str, Any]

_COLUMNS = ("ID", "NAME", "STATUS", "OWNER", "PROJECT", "SYSTEM", "CREATED", "TIME", "EXIT")
_ON_TERMINAL = 100
_LONGEST_ID = 40
"""Characters: a beginning is as good for all commands, and one long id must not make the table wide for all."""


@click.command()
@selection_options
@click.option("--limit", type=parameters.limit, help=f"At most so many; default: all, {_ON_TERMINAL} on a terminal.")
@click.option("--watch", is_flag=True, help="Keep the table up to date, until Ctrl-C.")
@click.option("--interval", type=parameters.duration, default=1.0, help="Between two looks, with --watch; default: 1s.")
@json_option
@pass_session
def jobs(session: Session, /, limit: int | None, watch: bool, interval: float, as_json: bool, **conditions: Any) -> None:
    """Show jobs, the newest first.

    \b
    Examples:
      execd jobs --status running --owner alice
      execd jobs --since 2h --watch
      execd jobs --status error --json | jq -r '.[]._id'
    """
    if watch and (as_json or not on_terminal()):
        raise click.UsageError("--watch needs a terminal, and does not go with --json.")
    wanted = selection(session, **conditions)
    with session.client() as client:
        if watch:
            _watch(session, client, wanted, interval)
        elif as_json:
            print_json(client.find(wanted, limit or 0))
        else:
            _print_jobs(session, client, wanted, limit)


def print_jobs(documents: Iterable[Document], now: datetime) -> None:
    """The table of these jobs."""
    print_table(_COLUMNS, _rows(documents, now))


def _print_jobs(session: Session, client: Client, wanted: Filter, limit: int | None) -> None:
    if limit is None and on_terminal():
        found = client.find(wanted, _ON_TERMINAL + 1)
        print_jobs(found[:_ON_TERMINAL], session.clock.now())
        if len(found) > _ON_TERMINAL:
            click.echo(f"There are more than these {_ON_TERMINAL}; --limit 0 shows all.", err=True)
    else:
        print_jobs(client.find(wanted, limit or 0), session.clock.now())


def _watch(session: Session, client: Client, wanted: Filter, interval: float) -> None:
    """Shows as many jobs as the terminal has lines for, again and again.  Ctrl-C ends it."""
    from rich.live import Live

    try:
        with Live(screen=True, auto_refresh=False) as screen:
            while True:
                rows = _rows(client.find(wanted, max(1, height() - 4)), session.clock.now())
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
