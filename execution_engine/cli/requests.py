"""Commands that ask something of the engine for jobs: kill, hold, release, suspend, resume, retry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Failure, Session, json_option, pass_session, resolve_all
from execution_engine.cli.jobs import FIELDS, print_jobs
from execution_engine.cli.output import print_json
from execution_engine.cli.selection import is_given, selection, selection_options
from execution_engine.jobs.status import FINAL, REQUESTS, RETRY, Status

if TYPE_CHECKING:
    from execution_engine.client import Client

_HELP = {
    "kill": """End jobs, with all of their processes.

    A job that has not started never will.  It is `killed` when its execution system confirms that nothing of it is left.
    """,
    "hold": """Keep jobs from starting, until `execd release`.

    A job that runs already is not held; see `execd suspend`.
    """,
    "release": """Let jobs that are on hold go on.

    One that had not been submitted is built and routed anew.
    """,
    "suspend": """Stop running jobs where they are, until `execd resume`.

    Their processes stay in memory, and their slots stay taken.
    """,
    "resume": """Let suspended jobs go on.

    Their processes take up where they were stopped.
    """,
    RETRY: """Try jobs again that ended in `error` or were `killed`.

    Each gets a new attempt: it is built and routed as if it were new, in an empty directory.  What the attempt before left is
    kept in `.execd/attempt-N` there.  A job that finished is not run again.
    """,
}
_COMMON = f"""
    Give the jobs, or a filter: the command then shows the jobs that it would touch, and asks.  It returns when the request
    is stored; the engine takes it up within a moment.  A request that makes no sense for the job's status is refused, and
    `execd explain JOB` says why.  Exit code 1: it makes no sense for one of the jobs, because that has ended already
    (`{RETRY}`: has not ended, or has finished).

    \b
    Examples:
      execd {{what}} 665f1c2ab7
      execd {{what}} --owner alice --tag nightly
      execd {{what}} --project genomes --since 2h --yes
"""
MOST_SHOWN = 50
"""Jobs that a person is shown before a yes or no."""


def _command(what: str) -> click.Command:
    @click.command(what, help=_HELP[what] + _COMMON.format(what=what))
    @click.argument("job", nargs=-1, type=parameters.job_id)
    @selection_options
    @click.option("--yes", is_flag=True, help="With a filter: do not ask.")
    @json_option
    @pass_session
    def request(session: Session, /, job: tuple[str, ...], yes: bool, as_json: bool, **conditions: Any) -> None:
        if bool(job) == is_given(conditions):
            raise click.UsageError("Give either jobs or a filter, such as --owner.")
        if as_json and not (job or yes):
            raise click.UsageError("--json asks nobody: with a filter it needs --yes.")
        with session.client() as client:
            ids = _resolved(client, what, job) if job else _selected(session, client, what, conditions, ask=not yes)
            _request(client, what, ids, as_json=as_json)

    return request


def _request(client: Client, what: str, ids: Collection[Any], *, as_json: bool) -> None:
    asked = dict.fromkeys(client.request(ids, what))
    others = client.statuses([job for job in ids if job not in asked])
    if as_json:
        print_json({"requested": list(asked), "refused": others})
    else:
        for job in asked:
            click.echo(f"{job}: {what} requested")
    if others:
        raise Failure("\n".join(f"{job} {_makes_no_sense(what, status)}" for job, status in others.items()))


def _makes_no_sense(what: str, status: Status) -> str:
    if status is Status.FINISHED and what == RETRY:
        return "finished: what finished is not run again; submit it as a new job"
    return f"has {'ended already' if status in FINAL else 'not ended'} ({status.value}): {what} makes no sense"


def _resolved(client: Client, what: str, texts: tuple[str, ...]) -> list[Any]:
    """The ids of the jobs.  Raises Failure for all that are not there, or that no engine can do anything with."""
    found, problems = resolve_all(client.store, texts)
    known = client.statuses(found)
    for job in found:
        if job not in known:
            status = client.get(job).get("status")
            problems.append(f"{job} has the status {status!r}, which no engine knows: nobody would {what} it")
    if problems:
        raise Failure("\n".join([*problems, f"{what}: nothing was requested"]))
    return found


def _selected(session: Session, client: Client, what: str, conditions: Mapping[str, Any], *, ask: bool) -> list[Any]:
    """The ids of the jobs that the filter describes and for which the request makes sense.

    With `ask`, shows them first, and raises Failure unless somebody says yes.
    """
    sensible = REQUESTS[what]
    if conditions["statuses"] and not sensible.intersection(conditions["statuses"]):
        expected = ", ".join(status.value for status in Status if status in sensible)
        raise click.UsageError(f"--status: {what} makes sense for jobs that are {expected}.")
    statuses = sensible.intersection(conditions["statuses"] or sensible)
    wanted = selection(session, **{**conditions, "statuses": sorted(statuses)})
    found = client.store.find(wanted, fields=FIELDS)
    first = list(islice(found, MOST_SHOWN))
    ids = dict.fromkeys(document["_id"] for document in chain(first, found))
    # again: one that an engine took up for the first time meanwhile may have been passed over, which happens to no job twice
    ids |= dict.fromkeys(document["_id"] for document in client.store.find(wanted, fields=("status",)))
    if not ids:
        click.echo(f"There is no such job to {what}: nothing was requested.", err=True)
    elif ask:
        confirm(session, what, what.capitalize(), first, len(ids))
    return list(ids)


def confirm(session: Session, command: str, words: str, first: list[dict[str, Any]], total: int) -> None:
    """Shows the first of the jobs, and raises Failure unless somebody says yes to `words` for all of them."""
    print_jobs(first, session.clock.now())
    if total > len(first):
        click.echo(f"… and {total - len(first)} more")
    number = f"these {total} jobs" if total > 1 else "this job"
    try:
        yes = click.confirm(f"{words} {number}?")
    except click.Abort:
        click.echo()
        raise Failure(f"{command}: nothing was requested; --yes says yes where nobody can be asked") from None
    if not yes:
        raise Failure(f"{command}: nothing was requested")


commands = [_command(what) for what in _HELP]
