"""The command that has owners told again that their jobs ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Failure, Session, json_option, pass_session, resolve_all
from execution_engine.cli.jobs import FIELDS
from execution_engine.cli.output import print_json
from execution_engine.cli.requests import MOST_SHOWN, confirm
from execution_engine.cli.selection import is_given, selection, selection_options
from execution_engine.jobs.status import FINAL

if TYPE_CHECKING:
    from execution_engine.client import Client
    from execution_engine.jobs.job import Job
    from execution_engine.store.job_store import Change

_LEASE = timedelta(minutes=1)


@click.command()
@click.argument("job", nargs=-1, type=parameters.job_id)
@selection_options
@click.option("--again", is_flag=True, help="Also those that were told already.")
@click.option("--yes", is_flag=True, help="With a filter: do not ask.")
@json_option
@pass_session
def notify(session: Session, /, job: tuple[str, ...], again: bool, yes: bool, as_json: bool, **conditions: Any) -> None:
    """Tell the owners of jobs that ended, once more: those whom no message has reached, for example after their mail server was
    away for too long.

    Give the jobs, or a filter: the command then shows the jobs that it would touch, and asks.  The engine sends the messages
    within a moment, and tries as often as for a job that has just ended.  Exit code 1: nobody is to be told of one of the jobs,
    all were told already (see --again), or it has not ended.

    \b
    Examples:
      execd notify 665f1c2ab7
      execd notify --since 7d --yes
      execd notify --owner alice --again
    """
    if bool(job) == is_given(conditions):
        raise click.UsageError("Give either jobs or a filter, such as --owner.")
    if as_json and not (job or yes):
        raise click.UsageError("--json asks nobody: with a filter it needs --yes.")
    with session.client() as client:
        desk = _Desk(session, client, again=again)
        if job:
            ids, problems = resolve_all(client.store, job)
        else:
            ids, problems = _selected(session, client, desk, conditions, ask=not yes), []
        asked, reasons = desk.ask(ids)
        client.wake()
    if as_json:
        print_json({"asked": asked, "refused": reasons})
    else:
        for job_id in asked:
            click.echo(f"{job_id}: the engine tells its targets")
    if problems or reasons:
        raise Failure("\n".join([*problems, *(f"{job_id}: {reason}" for job_id, reason in reasons.items())]))


def _selected(session: Session, client: Client, desk: _Desk, conditions: dict[str, Any], *, ask: bool) -> list[Any]:
    """The ids of the jobs that the filter describes and of which somebody is still to be told."""
    ended = [status.value for status in FINAL]
    statuses = [status for status in conditions["statuses"] or ended if status in ended]
    if not statuses:
        raise click.UsageError(f"--status: owners are told of jobs that are {', '.join(sorted(ended))}.")
    wanted = selection(session, **{**conditions, "statuses": statuses})
    found = client.store.find(wanted, fields=(*FIELDS, "notify", "notified"))
    open_ones = (document for document in found if not desk.reason_against(document))
    first = list(islice(open_ones, MOST_SHOWN))
    ids = [document["_id"] for document in chain(first, open_ones)]
    if not ids:
        click.echo("There is no such job of which somebody is still to be told.", err=True)
    elif ask:
        confirm(session, "notify", "Tell the targets of", first, len(ids))
    return ids


class _Desk:
    """Asks the engine to tell, by writes that take nothing from an actor that is at it."""

    def __init__(self, session: Session, client: Client, *, again: bool) -> None:
        from execution_engine.notification.notifier import Notifier

        self._store, self._clock, self._again = client.store, session.clock, again
        self._notifier = Notifier(session.config.notification)
        self._owner = f"notify-{socket.gethostname()}-{os.getpid()}/notify"

    def ask(self, ids: list[Any]) -> tuple[list[Any], dict[Any, str]]:
        """The jobs whose targets the engine tells now, and why the others' are not."""
        asked: list[Any] = []
        reasons: dict[Any, str] = {}
        try:
            for job_id in ids:
                if reason := self._ask(job_id):
                    reasons[job_id] = reason
                else:
                    asked.append(job_id)
        finally:
            self._store.release(self._owner, self._clock.now())
        return asked, reasons

    def reason_against(self, document: dict[str, Any]) -> str:
        """Why there is nothing to do; empty: there is something."""
        from execution_engine.errors import InvalidJob
        from execution_engine.jobs.job import Job

        if document.get("status") not in FINAL:
            return f"has not ended ({document.get('status')})"
        try:
            job = Job.from_document(document)
        except InvalidJob as error:
            return f"its document does not describe a job: {'; '.join(error.problems)}"
        if not self._notifier.targets_of(job):
            return "nobody is to be told: neither the job nor the configuration names a target"
        return "" if list(self._untold(job)) else "all of its targets were told already; --again tells them once more"

    def _untold(self, job: Job) -> Iterator[str]:
        """The names, in `notified`, of the targets that are to be told."""
        for name in self._notifier.record_names(job):
            if self._again or name not in job.notified or job.notified[name].at is None:
                yield name

    def _ask(self, job_id: Any) -> str:
        document = self._store.get(job_id)
        if document is None:
            return "is gone"
        if reason := self.reason_against(document):
            return reason
        now = self._clock.now()
        job = self._store.claim_one(job_id, self._owner, now, now + _LEASE)
        if job is None:
            return "the engine has it in hand just now, perhaps to tell them; `execd show` tells who was reached"
        return "somebody else changed it meanwhile" if self._store.apply([self._change(job)], self._owner, now) else ""

    def _change(self, job: Job) -> Change:
        from execution_engine.jobs.job import Delivery
        from execution_engine.store.job_store import Change

        now = self._clock.now()
        fresh = dict.fromkeys(self._untold(job), Delivery(since=now))
        notified = {name: delivery.model_dump() for name, delivery in {**job.notified, **fresh}.items()}
        return Change(job, job.status, fields={"notified": notified, "times.notified": None}, due_at=now)
