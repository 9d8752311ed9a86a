"""The command that puts jobs into the database."""

from __future__ import annotations

import os
import pwd
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import Failure, Session, complain, json_option
from execution_engine.cli.following import failures_of, outcome_of_wait, wait_for
from execution_engine.cli.output import print_json
from execution_engine.descriptors import plain_content
from execution_engine.errors import InvalidJob
from execution_engine.quantities import format_size

Document = dict[str, Any]

_LARGEST_INPUT = 15 << 20
"""Bytes: MongoDB takes documents of 16 MiB.  A file that never ends, such as /dev/zero, is not read further."""

_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


class _FilesOrCommand(click.Command):
    """A command whose words after `--` are a job's command, taken as they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            args, ctx.meta["command"] = args[:cut], args[cut + 1 :]
        return super().parse_args(ctx, args)


@click.command(cls=_FilesOrCommand, options_metavar="[OPTIONS]")
@click.argument("files", nargs=-1, metavar="FILE... | -- COMMAND [ARG]...", type=click.Path(allow_dash=True))
@click.option("--name", help="For people.")
@click.option("--project", type=parameters.some_text, help="For routing, directories, notification.")
@click.option("--owner", type=parameters.some_text, help="Whose job it is; default: you.")
@click.option("--env", multiple=True, type=parameters.name_value, metavar="NAME=VALUE", help="Added to the job's environment.")
@click.option(
    "--input", "inputs", multiple=True, type=parameters.name_value, metavar="NAME=FILE", help="A file that the job gets as NAME."
)
@click.option("--output", "outputs", multiple=True, metavar="PATTERN", help="Results to record at the end (*.txt).")
@click.option("--cores", type=click.IntRange(min=1), help="Processor cores.")
@click.option("--memory", type=parameters.size_text, metavar="SIZE", help="For all of its processes together (512M, 2G).")
@click.option("--walltime", type=parameters.duration_text, metavar="DURATION", help="Real time from its start (90s, 1h30m).")
@click.option("--priority", type=int, help="Higher first; default: 0.")
@click.option("--not-before", metavar="T", help="A date (2026-11-21T08:00), or so long from now (+10m).")
@click.option("--tag", "tags", multiple=True, help="For search and routing.")
@click.option("--notify/--no-notify", default=None, help="Whether the owner is told at the end; default: yes.")
@click.option("--strict", is_flag=True, help="Refuse fields that have no meaning or are the engine's own, instead of a warning.")
@click.option("--wait", is_flag=True, help="Wait until the jobs have ended; exit code 10 when one did not finish well.")
@click.option("--timeout", type=parameters.duration, help="Give up waiting after so long; exit code 1.")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    strict: bool,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit jobs, and print their ids.

    FILE (`-`: stdin) is YAML or JSON and holds one job, a list of jobs, or several YAML documents; docs/ describes the fields of
    a job.  The options add to what the file says, or replace it.  `not_before` may be a date or `+10m`; a date without a time
    zone is in the local one.  When anything is wrong with one of the jobs, all problems are named and none is submitted.  A field
    that has no meaning is kept, and warned of: it may be a misspelling.  Fields of an app's own begin with `x-`, or are those
    that `app_fields` in the configuration names.

    \b
    Examples:
      execd submit job.yaml
      execd submit --name sorted --input words=words.txt --output '*.out' -- sort -o words.out words
      execd submit --walltime 1h --wait -- sh -c 'make && make test'
      generate_jobs | execd submit --project blast -
    """
    session = ctx.find_object(Session)
    assert session is not None
    documents = _documents(session, files, ctx.meta.get("command"), options, strict=strict)
    with session.client() as client:
        ids = client.submit(documents)
        if not as_json:
            click.echo("\n".join(map(str, ids)))
        statuses = wait_for(client, ids, timeout) if wait else {}
        failures = failures_of(client, statuses)
    if as_json:
        print_json({"ids": ids} | ({"statuses": statuses, "failures": failures} if wait else {}))
    if wait:
        ctx.exit(outcome_of_wait(statuses, failures))


def _documents(
    session: Session, files: Iterable[str], command: list[str] | None, options: dict[str, Any], *, strict: bool
) -> list[Document]:
    """The jobs that the command line describes."""
    from execution_engine.cli.job_files import read_jobs

    if bool(files) == (command is not None):
        raise click.UsageError("Give either job files or, after `--`, a command.")
    if command is None:
        described = [job for name in files for job in read_jobs(_read(name), name)]
    elif command:
        described = [{"command": command}]
    else:
        raise click.UsageError("There is no command after `--`.")
    jobs = [_completed(job, options) if isinstance(job, dict) else job for job in described]
    odd = _misspelt(jobs, session.essentials.app_fields)
    dated = _dated(jobs, session.clock.now(), odd if strict else {})
    if not strict:
        _warn(odd, len(jobs))
    return dated


def _misspelt(jobs: list[Any], app_fields: Iterable[str]) -> dict[int, list[str]]:
    """The fields without a meaning, in words, by the index of their job."""
    from execution_engine.jobs.fields import misspelt

    found = {index: list(misspelt(job, tuple(app_fields))) for index, job in enumerate(jobs) if isinstance(job, dict)}
    return {index: lines for index, lines in found.items() if lines}


def _warn(odd: dict[int, list[str]], total: int) -> None:
    """Tells of each such field once, with the first job that has it, and how many more do."""
    jobs: dict[str, list[int]] = defaultdict(list)
    for index, lines in odd.items():
        for line in lines:
            jobs[line].append(index + 1)
    for line, (first, *others) in jobs.items():
        where = f"job {first}{f' and {len(others)} more' if others else ''}: " if total > 1 else ""
        complain(f"warning: {where}{line}")


def _dated(jobs: list[Any], now: datetime, odd: dict[int, list[str]]) -> list[Document]:
    """The jobs with dates for texts.

    Raises InvalidJob when a text is none, or some field is `odd`, with all else that is wrong with the jobs.
    """
    from execution_engine.cli.job_files import with_dates
    from execution_engine.client import numbered, problems_of

    dated: list[Document] = []
    problems: list[list[str]] = []
    for index, job in enumerate(jobs):
        problems.append(odd.get(index, []))
        try:
            dated.append(with_dates(job, now))
        except InvalidJob as error:
            dated.append({name: value for name, value in job.items() if name != "not_before"})
            problems[-1] = [*problems[-1], *error.problems]
    if any(problems):
        raise InvalidJob(numbered([of_one + problems_of(job) for of_one, job in zip(problems, dated, strict=True)]))
    return dated


def _read(name: str) -> bytes:
    """A file; a pipe only where the caller's shell put it (`/dev/stdin`, `<(…)`)."""
    if name == "-":
        return sys.stdin.buffer.read()
    if name.startswith(_STREAMS):
        return Path(name).read_bytes()
    return plain_content(Path(name))


def _completed(job: Document, options: dict[str, Any]) -> Document:
    """The job with what the options say: single values replace the job's, several add to it."""
    plain = ("name", "project", "owner", "priority", "not_before", "notify")
    job = {"owner": _caller(), **job} | {field: options[field] for field in plain if options[field] is not None}
    documents = {
        "env": dict(options["env"]),
        "inputs": {name: _content(path) for name, path in options["inputs"]},
        "resources": {name: options[name] for name in ("cores", "memory", "walltime") if options[name] is not None},
    }
    for field, added in documents.items():
        _add(job, field, {}, added)
    for field in ("outputs", "tags"):
        _add(job, field, [], list(options[field]))
    return job


def _add(job: Document, field: str, nothing: Any, added: Any) -> None:
    """Adds to a list or document of the job; one of another type stays as it is, for the validation to name it."""
    present = job.get(field, nothing)
    if added and isinstance(present, type(added)):
        job[field] = {**present, **added} if isinstance(added, dict) else [*present, *added]


def _content(path: str) -> str | bytes:
    """A file's content: text where it is UTF-8, for people who look at the document, else bytes.  Raises Failure."""
    with Path(path).open("rb") as file:
        content = file.read(_LARGEST_INPUT + 1)
    if len(content) > _LARGEST_INPUT:
        raise Failure(
            f"--input: {path} is larger than {format_size(_LARGEST_INPUT)}, too large for a job's document; in a job file, "
            "`inputs: {NAME: {source: PATH}}` has the engine fetch it"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


def _caller() -> str:
    """The user who calls."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
