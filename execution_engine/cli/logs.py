"""What a job wrote: execd logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Failure, Session, pass_session
from execution_engine.cli.output import dig
from execution_engine.cli.wording import status_of
from execution_engine.jobs.status import FINAL

if TYPE_CHECKING:
    from execution_engine.client import Client
    from execution_engine.job_output import Output

Document = Mapping[str, Any]

_FOLLOW_INTERVAL = 0.2
_lines = click.IntRange(min=0)


@click.command()
@click.argument("job", type=parameters.job_id)
@click.option("--stderr", is_flag=True, help="Its stderr instead of its stdout.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt; default: the latest.")
@click.option("--head", type=_lines, metavar="N", help="Only the first N lines, of at most 64 kB each on an average.")
@click.option("--tail", type=_lines, metavar="N", help="Only the last N lines, likewise; the rest is not read.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, or Ctrl-C.")
@pass_session
def logs(session: Session, job: str, stderr: bool, attempt: int | None, head: int | None, tail: int | None, follow: bool) -> None:
    """Print the output of a job, byte for byte.

    It is read from the job's directory, which must be reachable from this machine.  A link, a pipe or whatever else a job put in
    the place of its output is not read.

    \b
    Examples:
      execd logs 65f1 --tail 20
      execd logs 65f1 --stderr --follow
    """
    if head is not None and (follow or tail is not None):
        raise click.UsageError("--head goes neither with --tail nor with --follow.")
    if follow and attempt is not None:
        raise click.UsageError("--follow goes with the latest attempt only, not with --attempt.")
    with session.client() as client:
        job_id = client.store.resolve(job)
        if follow:
            with suppress(KeyboardInterrupt):
                _follow(client, job_id, stderr=stderr, tail=tail)
            return
        with ExitStack() as stack:
            output = _opened(stack, client.get(job_id), stderr=stderr, attempt=attempt)
            if tail is not None:
                output.go_to_last(tail)
            output.copy(sys.stdout.buffer.write, lines=head)
            sys.stdout.buffer.flush()


def _opened(stack: ExitStack, document: Document, *, stderr: bool, attempt: int | None = None) -> Output:
    """The job's output, open until the stack ends.  Raises Failure when there is none (yet), OSError for what is none."""
    from execution_engine.building.earlier_attempts import place_of_attempt
    from execution_engine.job_output import opened

    directory, label = document.get("dir"), f"job {document.get('_id')}"
    if not isinstance(directory, str):
        raise Failure(f"{label} has no output: its status is {document.get('status')}")
    path = "stderr" if stderr else "stdout"
    latest = document.get("attempt", 1)
    if attempt is not None and attempt != latest:
        if isinstance(latest, int) and attempt > latest:
            raise Failure(f"{label} has no attempt {attempt} yet; its latest is {latest}")
        path = f"{place_of_attempt(attempt)}/{path}"
    try:
        return stack.enter_context(opened(Path(directory), path))
    except FileNotFoundError:
        host = dig(document, "execution.host") or "an unknown host"
        raise Failure(
            f"{label} has no output at {directory}/{path}; its status is {document.get('status')}, it was built on {host}"
        ) from None


class _Followed:
    """The output of a job that goes on.  Where another file takes its place, as at the next attempt, the rest of the first is
    told first."""

    def __init__(self, tail: int | None) -> None:
        self._tail = tail
        self._open = ExitStack()
        self.output: Output | None = None

    def look(self, document: Document, *, stderr: bool) -> None:
        """Opens what is there now.  Raises as `_opened`."""
        with ExitStack() as stack:
            found = _opened(stack, document, stderr=stderr)
            if self.output is None:
                if self._tail is not None:
                    found.go_to_last(self._tail)
            elif found.identity == self.output.identity:
                return
            self.copy()
            self.close()
            self._open, self.output = stack.pop_all(), found

    def copy(self) -> None:
        """Writes what has been added since."""
        if self.output is not None:
            self.output.copy(sys.stdout.buffer.write)
            sys.stdout.buffer.flush()

    def close(self) -> None:
        self._open.close()


def _follow(client: Client, job_id: Any, *, stderr: bool, tail: int | None) -> None:
    """Copies the output as it grows.  The status is read before the file: what a job that has ended wrote is all there.

    The whole document, which may be large, is read when the status is another.
    """
    document: Document = {}
    with closing(_Followed(tail)) as followed:
        while True:
            if client.statuses([job_id]).get(job_id) != status_of(document) or not document:
                document = client.get(job_id)
            ended = status_of(document) in FINAL
            try:
                followed.look(document, stderr=stderr)
            except Failure:
                if ended and followed.output is None:
                    raise
            followed.copy()
            if ended:
                return
            time.sleep(_FOLLOW_INTERVAL)
