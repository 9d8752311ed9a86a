"""The table of jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Session, json_option, pass_session
from execution_engine.cli.output import as_text, dig, height, local_text, on_terminal, print_json_array, print_json_lines
from execution_engine.cli.selection import selection, selection_options
from execution_engine.cli.tables import print_table, rich_table, shortened
from execution_engine.cli.wording import command_text, exit_word, run_time

if TYPE_CHECKING:
    from execution_engine.client import Client, Filter

Document = Mapping[str, Any]

_COLUMNS = ("ID", "NAME", "STATUS", "OWNER", "PROJECT", "SYSTEM", "CREATED", "TIME", "EXIT")
FIELDS = ("name", "command", "status", "owner", "project", "execution.system", "exit", "times")
"""What of a job the table needs."""
_ON_TERMINAL = 100
_LONGEST_CELL = 200
"""Columns; what is longer is cut in the table, and whole in `--json` and `execd show`."""
_LONGEST_ID = 40
"""Characters: a beginning is as good for all commands, and one long id must not make the table wide for all."""


@click.command()
@selection_options
@click.option("--limit", type=parameters.limit, help=f"At most so many; default: all, {_ON_TERMINAL} on a terminal.")
@click.option("--watch", is_flag=True, help="Keep the table up to date, until Ctrl-C.")
@click.option("--interval", type=parameters.duration, default=1.0, help="Between two looks, with --watch; default: 1s.")
@json_option
@click.option("--jsonl", "as_lines", is_flag=True, help="Print JSON, a job a line.")
@pass_session
def jobs(
    session: Session, /, limit: int | None, watch: bool, interval: float, as_json: bool, as_lines: bool, **conditions: Any
) -> None:
    """Show jobs, the newest first.

    They are printed as they are read, so that a list may be as long as it likes.

    \b
    Examples:
      execd jobs --status running --owner alice
      execd jobs --since 2h --watch
      execd jobs --status error --json | jq -r '.[]._id'
      execd jobs --jsonl | grep '"genomes"'
    """
    if watch and (as_json or as_lines or not on_terminal()):
        raise click.UsageError("--watch needs a terminal, and does not go with --json or --jsonl.")
    if as_json and as_lines:
        raise click.UsageError("Give --json or --jsonl.")
    wanted = selection(session, **conditions)
    with session.client() as client:
        if watch:
            _watch(session, client, wanted, interval)
        elif as_json:
            print_json_array(client.store.find(wanted, limit or 0))
        elif as_lines:
            print_json_lines(client.store.find(wanted, limit or 0))
        else:
            _print_jobs(session, client, wanted, limit)


def print_jobs(documents: Iterable[Document], now: datetime) -> None:
    """The table of these jobs."""
    print_table(_COLUMNS, _rows(documents, now))


def _print_jobs(session: Session, client: Client, wanted: Filter, limit: int | None) -> None:
    if limit is None and on_terminal():
        found = client.store.find(wanted, _ON_TERMINAL + 1, FIELDS)
        print_jobs(islice(found, _ON_TERMINAL), session.clock.now())
        if next(found, None) is not None:
            click.echo(f"There are more than these {_ON_TERMINAL}; --limit 0 shows all.", err=True)
    else:
        print_jobs(client.store.find(wanted, limit or 0, FIELDS), session.clock.now())


def _watch(session: Session, client: Client, wanted: Filter, interval: float) -> None:
    """Shows as many jobs as the terminal has lines for, again and again.  Ctrl-C ends it."""
    from rich.live import Live

    try:
        with Live(screen=True, auto_refresh=False) as screen:
            while True:
                rows = _rows(client.store.find(wanted, max(1, height() - 4), FIELDS), session.clock.now())
                screen.update(rich_table(_COLUMNS, rows), refresh=True)
                time.sleep(max(0.1, interval))
    except KeyboardInterrupt:
        return


def _rows(documents: Iterable[Document], now: datetime) -> Iterator[tuple[str, ...]]:
    today = now if on_terminal() else None
    for document in documents:
        cells = (
            _label(document),
            *(as_text(dig(document, name)) for name in ("status", "owner", "project", "execution.system")),
            local_text(dig(document, "times.created"), today),
            run_time(document, now),
            exit_word(document),
        )
        job_id = shortened(as_text(document.get("_id")), _LONGEST_ID)
        yield job_id, *(shortened(cell, _LONGEST_CELL) for cell in cells)


def _label(document: Document) -> str:
    """The name, or the beginning of the command of a job that has none."""
    if name := document.get("name"):
        return as_text(name)
    return shortened(command_text(document), 40)
