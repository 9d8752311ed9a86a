"""Commands that ask something of the engine for jobs: kill, hold, release, suspend, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli.context import Failure, Session, json_option, pass_session, resolve_all
from execution_engine.cli.output import print_json

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
}
_COMMON = """
    Returns when the request is stored; the engine takes it up within a moment.  A request that makes no sense for the
    job's status is refused, and `execd explain JOB` says why.  Exit code 1: one of the jobs has ended already.
"""


def _command(what: str) -> click.Command:
    @click.command(what, help=_HELP[what] + _COMMON)
    @click.argument("job", nargs=-1, required=True)
    @json_option
    @pass_session
    def request(session: Session, job: tuple[str, ...], as_json: bool) -> None:
        _request(session, what, job, as_json=as_json)

    return request


def _request(session: Session, what: str, texts: tuple[str, ...], *, as_json: bool) -> None:
    with session.client() as client:
        ids = _resolved(client, what, texts)
        asked = client.request(ids, what)
        ended: dict[Any, Any] = client.store.statuses([job for job in ids if job not in asked])
    if as_json:
        print_json({"requested": asked, "ended": ended})
    else:
        for job in asked:
            click.echo(f"{job}: {what} requested")
    if ended:
        raise Failure(
            "\n".join(f"{job} has ended already ({status.value}): {what} makes no sense" for job, status in ended.items())
        )


def _resolved(client: Client, what: str, texts: tuple[str, ...]) -> list[Any]:
    """The ids of the jobs.  Raises Failure for all that are not there, or that no engine can do anything with."""
    found, problems = resolve_all(client.store, texts)
    known = client.store.statuses(found)
    for job in found:
        if job not in known:
            status = client.get(job).get("status")
            problems.append(f"{job} has the status {status!r}, which no engine knows: nobody would {what} it")
    if problems:
        raise Failure("\n".join([*problems, f"{what}: nothing was requested"]))
    return found


commands = [_command(what) for what in _HELP]
