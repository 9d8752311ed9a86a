"""Commands that follow jobs: logs, wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import ExitCode, Failure, Session, complain, json_option, pass_session, resolve_all
from execution_engine.cli.output import dig, print_json, print_table, progress
from execution_engine.jobs.status import FINAL, Status

if TYPE_CHECKING:
    from execution_engine.client import Client

Document = Mapping[str, Any]

_FOLLOW_INTERVAL = 0.2
_CHUNK = 1 << 16


@click.command()
@click.argument("job", type=parameters.job_id)
@click.option("--stderr", is_flag=True, help="Its stderr instead of its stdout.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt; default: the latest.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, or Ctrl-C.")
@pass_session
def logs(session: Session, job: str, stderr: bool, attempt: int | None, follow: bool) -> None:
    """Print the output of a job, byte for byte.

    It is read from the job's directory, which must be reachable from this machine.
    """
    if follow and attempt is not None:
        raise click.UsageError("--follow goes with the latest attempt only, not with --attempt.")
    with session.client() as client:
        job_id = client.store.resolve(job)
        document = client.get(job_id)
        if not follow:
            _copy(_output_file(document, stderr=stderr, attempt=attempt), 0)
            return
        try:
            _follow(client, job_id, stderr=stderr)
        except KeyboardInterrupt:
            return


def _output_file(document: Document, *, stderr: bool, attempt: int | None = None) -> Path:
    """Where the job's output is.  Raises Failure when there is none (yet)."""
    from execution_engine.building.earlier_attempts import directory_of_attempt

    directory, label = document.get("dir"), f"job {document.get('_id')}"
    if not isinstance(directory, str):
        raise Failure(f"{label} has no output: its status is {document.get('status')}")
    place = Path(directory)
    latest = document.get("attempt", 1)
    if attempt is not None and attempt != latest:
        if isinstance(latest, int) and attempt > latest:
            raise Failure(f"{label} has no attempt {attempt} yet; its latest is {latest}")
        place = directory_of_attempt(place, attempt)
    path = place / ("stderr" if stderr else "stdout")
    if not path.exists():
        host = dig(document, "execution.host") or "an unknown host"
        raise Failure(f"{label} has no output at {path}; its status is {document.get('status')}, it was built on {host}")
    return path


def _copy(path: Path, position: int) -> int:
    """Writes what the file holds from `position` on to stdout, and returns the position after it."""
    out = sys.stdout.buffer
    with path.open("rb") as stream:
        stream.seek(position)
        while chunk := stream.read(_CHUNK):
            out.write(chunk)
        out.flush()
        return stream.tell()


def _follow(client: Client, job_id: Any, *, stderr: bool) -> None:
    """Copies the output as it grows.  The status is read before the file: what a job that has ended wrote is all there."""
    position = 0
    while True:
        document = client.get(job_id)
        ended = document.get("status") in FINAL
        try:
            position = _copy(_output_file(document, stderr=stderr), position)
        except Failure:
            if ended:
                raise
        if ended:
            return
        time.sleep(_FOLLOW_INTERVAL)


@click.command()
@click.argument("job", nargs=-1, required=True, type=parameters.job_id)
@click.option("--timeout", type=parameters.duration, help="Give up after so long (30, 10m); exit code 1.")
@json_option
@click.pass_context
def wait(ctx: click.Context, job: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until these jobs have ended.

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
    if as_json:
        print_json({"statuses": statuses})
    else:
        print_table(("ID", "STATUS"), [(str(one), status.value) for one, status in statuses.items()])
    ctx.exit(outcome_of_wait(statuses))


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


def outcome_of_wait(statuses: Mapping[Any, Status]) -> ExitCode:
    """The exit code that waiting came to; names on stderr the jobs that did not finish well, or not in time."""
    failed = {job: status for job, status in statuses.items() if status in FINAL and status != Status.FINISHED}
    waiting = [job for job, status in statuses.items() if status not in FINAL]
    for job, status in failed.items():
        complain(f"job {job}: {status.value}; `execd explain` tells why")
    if waiting:
        complain(f"the time is over, {len(waiting)} of {len(statuses)} jobs have not ended")
    if failed:
        return ExitCode.JOB_FAILED
    return ExitCode.FAILED if waiting else ExitCode.DONE
