"""Waiting for jobs: execd wait, and what `submit --wait` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import ExitCode, Failure, Session, complain, json_option, resolve_all
from execution_engine.cli.output import as_text, dig, print_json, progress
from execution_engine.cli.tables import print_table
from execution_engine.cli.wording import exit_text, exit_word
from execution_engine.jobs.status import FINAL, Status

if TYPE_CHECKING:
    from execution_engine.client import Client

Document = Mapping[str, Any]


@click.command()
@click.argument("job", nargs=-1, required=True, type=parameters.job_id)
@click.option("--timeout", type=parameters.duration, help="Give up after so long (30, 10m); exit code 1.")
@json_option
@click.pass_context
def wait(ctx: click.Context, job: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until these jobs have ended, and tell how.

    Exit code 0 when all of them finished, 10 when one ended otherwise.

    \b
    Examples:
      execd wait 65f1 65f2 --timeout 1h
    """
    session = ctx.find_object(Session)
    assert session is not None
    with session.client() as client:
        ids, missing = resolve_all(client.store, job)
        if missing:
            raise Failure("\n".join(missing))
        statuses = wait_for(client, ids, timeout)
        failures = failures_of(client, statuses)
    if as_json:
        print_json({"statuses": statuses, "failures": failures})
    else:
        rows = [(str(one), status.value, _exit_of(status, failures.get(one))) for one, status in statuses.items()]
        print_table(("ID", "STATUS", "EXIT"), rows)
    ctx.exit(outcome_of_wait(statuses, failures))


def _exit_of(status: Status, failure: Document | None) -> str:
    return exit_word(failure) if failure is not None else "0" if status is Status.FINISHED else ""


def wait_for(client: Client, ids: Sequence[Any], timeout: float | None) -> dict[Any, Status]:
    """Waits for jobs behind a progress bar, and returns their last known statuses."""
    seen: dict[Any, Status] = {}
    with progress("jobs ended", len(set(ids))) as show_progress:

        def on_change(changed: dict[Any, Status]) -> None:
            seen.update(changed)
            ended = [status for status in seen.values() if status in FINAL]
            running = sum(status == Status.RUNNING for status in seen.values())
            failed = sum(status != Status.FINISHED for status in ended)
            show_progress(len(ended), f"{running} running, {failed} failed")

        return client.wait(ids, timeout, on_change)


def failures_of(client: Client, statuses: Mapping[Any, Status]) -> dict[Any, dict[str, Any]]:
    """Of the jobs that ended, and not well: how; what the job itself says, one job at a time, for it may be large."""
    failures: dict[Any, dict[str, Any]] = {}
    for job, status in statuses.items():
        if status in FINAL and status is not Status.FINISHED:
            document = client.store.get(job) or {}
            failures[job] = {name: document.get(name) for name in ("exit", "error")}
    return failures


def outcome_of_wait(statuses: Mapping[Any, Status], failures: Mapping[Any, Document]) -> ExitCode:
    """The exit code that waiting came to; names on stderr the jobs that did not finish well or in time, and how they ended."""
    waiting = [job for job, status in statuses.items() if status not in FINAL]
    for job, failure in failures.items():
        how = exit_text(failure) or as_text(dig(failure, "error.kind"))
        complain(f"job {job}: {statuses[job].value}{f', {how}' if how else ''}; `execd explain {job}` tells why")
    if waiting:
        complain(f"the time is over, {len(waiting)} of {len(statuses)} jobs have not ended")
    if failures:
        return ExitCode.JOB_FAILED
    return ExitCode.FAILED if waiting else ExitCode.DONE
