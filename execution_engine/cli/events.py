"""The journal: what the engines of a database did by themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Session, json_option, pass_session
from execution_engine.cli.output import local_text, on_terminal, print_json
from execution_engine.cli.tables import print_table

if TYPE_CHECKING:
    from execution_engine.store.job_store import JobStore
    from execution_engine.store.journal import Entry

_COLUMNS = ("AT", "ENGINE", "EVENT")
_FOLLOW_INTERVAL = 1.0
_LATEST = timedelta(minutes=1)
"""so late may an event be stored"""


@click.command()
@click.option("--job", type=parameters.job_id, metavar="JOB", help="Only what concerns this job.")
@click.option("--since", metavar="T", help="Since a date (2026-11-21T08:00), or so long ago (2h, 1d).")
@click.option("--limit", type=parameters.limit, default=100, show_default=True, help="The latest so many; 0: all.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, a line for each, until Ctrl-C.")
@json_option
@pass_session
def events(session: Session, job: str | None, since: str | None, limit: int, follow: bool, as_json: bool) -> None:
    """Show what the engines did by themselves, the oldest first.

    Processes that were started again, jobs that were taken over or found after a crash, outages, refused reloads.  It is kept
    in the database, for `engine.keep_events`; what was done to each job at each step is in `execd show JOB`.

    \b
    Examples:
      execd events --since 1d
      execd events --job 65f1
      execd events --json | jq -r '.[].event' | sort | uniq -c
    """
    if follow and as_json:
        raise click.UsageError("--follow does not go with --json.")
    try:
        moment = parameters.parse_since(since, session.clock.now()) if since else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    with session.client() as client:
        wanted = str(client.store.resolve(job)) if job is not None else None
        found = client.store.journal.select(wanted, moment, limit)
        if as_json:
            print_json([_plain(entry) for entry in found])
        elif follow:
            _follow(client.store, wanted, found, found[0].at if found and len(found) == limit else moment)
        else:
            today = session.clock.now() if on_terminal() else None
            print_table(_COLUMNS, [(local_text(entry.at, today), entry.engine, _words(entry)) for entry in found])


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "event": entry.event,
        "engine": entry.engine,
        "jobs": entry.jobs,
        "message": _words(entry),
        "facts": entry.facts,
    }


def _words(entry: Entry) -> str:
    """As in the log."""
    from execution_engine.logger.wording import text_of

    return text_of({**entry.facts, "event": entry.event})


def _follow(store: JobStore, job: str | None, found: Sequence[Entry], since: datetime | None) -> None:
    """Prints what was found, and what comes after it, also what is stored late; nothing from before `since`.  Ctrl-C ends it."""
    shown: set[str] = set()
    try:
        while True:
            for entry in found:
                if entry.id not in shown:
                    click.echo(f"{local_text(entry.at)}  {entry.engine}  {_words(entry)}")
            shown = {entry.id for entry in found}
            if found:
                late = found[-1].at - _LATEST
                since = late if since is None else max(since, late)
            time.sleep(_FOLLOW_INTERVAL)
            found = store.journal.select(job, since)
    except KeyboardInterrupt:
        return
