"""Commands that tell all about one job: show, explain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Session, json_option, pass_session
from execution_engine.cli.explain import explain as explain_job
from execution_engine.cli.output import amount, as_text, dig, entries, harmless, local_text, print_facts, print_json
from execution_engine.cli.tables import print_section, print_table
from execution_engine.cli.wording import command_text, exit_text, refusal, run_time, unconfirmed_kill
from execution_engine.quantities import format_duration, format_size

Document = Mapping[str, Any]


@click.command()
@click.argument("job", type=parameters.job_id)
@json_option
@pass_session
def show(session: Session, job: str, as_json: bool) -> None:
    """Show everything about one job: what was asked for, where it runs, how it ended, its results and its history."""
    with session.client() as client:
        document = client.get(client.store.resolve(job))
    if as_json:
        print_json(document)
        return
    print_job(document, session.clock.now())


def print_job(document: Document, now: datetime) -> None:
    """Prints everything about a job, for a person."""
    print_facts(_facts(document, now))
    print_section("Results", ("SIZE", "FILE"), _result_rows(document))
    print_section("Attempts before", ("ATTEMPT", "STATUS", "ENDED", "EXIT", "SYSTEM"), _attempt_rows(document))
    print_section("History", ("AT", "STATUS", "WHY", "BY"), _history_rows(document))
    print_section("Notified", ("TARGET", "DELIVERED", "ATTEMPTS", "ERROR"), _delivery_rows(document))


def _facts(document: Document, now: datetime) -> dict[str, str]:
    return {
        "id": as_text(document.get("_id")),
        "name": as_text(document.get("name")),
        "status": as_text(document.get("status")),
        "command": command_text(document),
        "owner": as_text(document.get("owner")),
        "project": as_text(document.get("project")),
        "tags": _listed(document.get("tags")),
        "priority": as_text(document.get("priority")),
        "resources": _pairs(document.get("resources")),
        "environment": _pairs(document.get("env")),
        "inputs": _listed(document.get("inputs")),
        "not before": local_text(document.get("not_before")),
        "request": as_text(document.get("request")),
        "requested": unconfirmed_kill(document) or _requested(document),
        "refused": refusal(document),
        "attempt": as_text(document.get("attempt")),
        "directory": as_text(document.get("dir")),
        "system": _place(document),
        **{name: local_text(dig(document, f"times.{name}")) for name in ("created", "submitted", "started", "ended")},
        "time": run_time(document, now),
        "exit": exit_text(document),
        "used": _used(document),
        "error": as_text(dig(document, "error.message")),
    }


def _requested(document: Document) -> str:
    what, why = (as_text(dig(document, f"requested.{name}")) for name in ("what", "why"))
    return f"{what} at {local_text(dig(document, 'requested.at'))}: {why}" if what else ""


def _place(document: Document) -> str:
    system, route, job_no, host = (dig(document, f"execution.{name}") for name in ("system", "route", "job_no", "host"))
    words = [f"{system} by route {route}"] if system else []
    words += [f"as {job_no}"] if job_no else []
    words += [f"host {dig(document, 'usage.host') or host}"] if host else []
    return ", ".join(words)


def _used(document: Document) -> str:
    words = []
    for name, what in (("wall", "real"), ("cpu", "cpu")):
        if (seconds := amount(dig(document, f"usage.{name}"))) is not None:
            words.append(f"{format_duration(seconds)} {what}")
    if (size := amount(dig(document, "usage.memory"))) is not None:
        words.append(f"{format_size(int(size))} memory")
    return ", ".join(words)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Mapping | list | tuple) else as_text(value)


def _pairs(value: Any) -> str:
    return ", ".join(f"{name}={item}" for name, item in value.items()) if isinstance(value, Mapping) else as_text(value)


def _result_rows(document: Document) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(as_text(one.get("size")), as_text(one.get("path"))) for one in entries(document, "results")]
    if document.get("results_cut"):
        rows.append(("…", "and more, which are not listed"))
    return rows


def _attempt_rows(document: Document) -> list[tuple[str, ...]]:
    return [
        (
            *(as_text(before.get(name)) for name in ("attempt", "status")),
            local_text(dig(before, "times.ended")),
            exit_text(before),
            _place(before),
        )
        for before in entries(document, "attempts")
    ]


def _history_rows(document: Document) -> list[tuple[str, ...]]:
    return [
        (local_text(entry.get("at")), *(as_text(entry.get(name)) for name in ("status", "why", "by")))
        for entry in entries(document, "history")
    ]


def _delivery_rows(document: Document) -> list[tuple[str, ...]]:
    notified = document.get("notified")
    return [
        (str(target), local_text(dig(entry, "at")), as_text(dig(entry, "attempts")), _failure(entry))
        for target, entry in (notified.items() if isinstance(notified, Mapping) else ())
        if isinstance(entry, Mapping)
    ]


def _failure(delivery: Mapping[str, Any]) -> str:
    error = as_text(delivery.get("error"))
    return f"given up: {error}" if delivery.get("given_up") is True else error


@click.command()
@click.argument("job", type=parameters.job_id)
@json_option
@pass_session
def explain(session: Session, job: str, as_json: bool) -> None:
    """Tell why a job waits, why it was routed as it was, or why it failed."""
    from execution_engine import master

    with session.client() as client:
        document = client.get(client.store.resolve(job))
        elsewhere = {lane: record.id for record in client.store.engines.all() for lane in record.lanes}
    try:
        engine = {**master.status(session.file, session.run_dir), "elsewhere": elsewhere}
    except (master.NotRunning, master.RunsElsewhere):
        engine = None
    facts = explain_job(document, session.clock.now(), engine)
    if as_json:
        print_json(facts)
    else:
        print_explanation(facts)


def print_explanation(facts: Mapping[str, Any]) -> None:
    """Prints what `explain` found out, for a person."""
    print_facts({"job": as_text(facts["id"]), "status": as_text(facts["status"]), "why": "\n".join(facts["why"])})
    answers = [(as_text(a.get("route")), as_text(a.get("rule")), _answer(a)) for a in facts["routing"]]
    if facts["route"]:
        click.echo()
        click.echo(harmless(f"Routed by {facts['route']} to {facts['system']}" + ("" if answers else ", without a rule")))
    if answers:
        print_table(("ROUTE", "RULE", "ANSWER"), answers)
    if facts.get("stderr"):
        click.echo("\nThe end of its stderr")
        for line in facts["stderr"]:
            click.echo(f"  {harmless(line)}")


def _answer(asked: Document) -> str:
    answer = "yes" if asked.get("answer") else "no"
    return f"{answer}: it raised {asked['error']}" if asked.get("error") else answer
