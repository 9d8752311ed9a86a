"""The command that inserts jobs at random, as apps would: to try a configuration, and to see an engine work."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from execution_engine.cli import parameters
from execution_engine.cli.context import ExitCode, Session, json_option
from execution_engine.cli.output import print_facts, print_json, progress
from execution_engine.quantities import format_duration

if TYPE_CHECKING:
    from types import FrameType

    from execution_engine.client import Client

Document = dict[str, Any]

_WORK = """\
awk -v seed={seed} 'BEGIN {{ srand(seed); for (i = 0; i < 2000; i++) print int(rand() * 500) }}' > numbers
sort -n numbers | uniq -c | sort -rn > frequencies
echo "the most frequent: $(head -n 1 frequencies)"
sleep {seconds}
"""
_FAILURE = "echo 'this job was made to fail' >&2\nexit 3\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What kind of jobs are made."""

    projects: int
    owners: int
    duration: tuple[float, float]
    failing: float
    command: str | None

    def job(self, number: int, dice: random.Random) -> Document:
        """A job as an app would write it."""
        work = self.command or _WORK.format(seed=dice.randrange(1_000_000), seconds=f"{dice.uniform(*self.duration):.2f}")
        fails = dice.random() < self.failing
        return {
            "name": f"simulated {number}",
            "project": f"project{dice.randint(1, self.projects)}",
            "owner": f"owner{dice.randint(1, self.owners)}",
            "command": f"{work}\n{_FAILURE}" if fails else work,
            "outputs": ["frequencies"],
            "resources": {"cores": 1},
            "priority": dice.randint(0, 9),
            "tags": ["simulated", dice.choice(("short", "long", "urgent"))],
        }


@click.command()
@click.option("--jobs", "total", type=click.IntRange(min=1), default=500, show_default=True, help="How many.")
@click.option("--projects", type=click.IntRange(min=1), default=3, show_default=True, help="Of how many projects.")
@click.option("--owners", type=click.IntRange(min=1), default=3, show_default=True, help="Of how many owners.")
@click.option(
    "--interval", type=parameters.span, metavar="A..B", default="0..5", help="Seconds between two inserts; default: 0..5."
)
@click.option("--batch", type=parameters.span, metavar="A..B", default="0..3", help="Jobs in one insert; default: 0..3.")
@click.option(
    "--duration", type=parameters.span, metavar="A..B", default="0..2", help="Seconds that a job sleeps; default: 0..2."
)
@click.option(
    "--failing", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Share of jobs that fail on purpose."
)
@click.option("--command", help="A shell script to run instead of the little work that they do.")
@click.option("--seed", type=int, help="The same seed makes the same jobs.")
@json_option
@click.pass_context
def simulate(
    ctx: click.Context,
    /,
    total: int,
    interval: tuple[float, float],
    batch: tuple[float, float],
    seed: int | None,
    as_json: bool,
    **plan: Any,
) -> None:
    """Insert jobs at random, as apps would.

    Each generates, sorts and counts some numbers, and sleeps a moment.  Projects, owners, priorities and tags are random; all
    have the tag `simulated`.  Ctrl-C ends it, and what was inserted so far is shown (exit code 1).

    \b
    Examples:
      execd simulate
      execd simulate --jobs 1000 --interval 0 --duration 0
      execd jobs --tag simulated --watch
    """
    if batch[1] < 1 or any(bound != int(bound) for bound in batch):
        raise click.BadParameter("expected whole numbers, the second not below 1", param_hint="--batch")
    session = ctx.find_object(Session)
    assert session is not None
    started = session.clock.monotonic()
    inserted: list[tuple[Any, Document]] = []
    with session.client() as client, until_interrupted() as interrupted, progress("jobs inserted", total) as show_progress:
        for more in _inserts(client, Plan(**plan), total, interval, batch, random.Random(seed), interrupted):
            inserted += more
            show_progress(len(inserted), "")
    if as_json:
        print_json({"ids": [job_id for job_id, _ in inserted]})
    else:
        _print_summary([job for _, job in inserted], session.clock.monotonic() - started)
    if len(inserted) < total:
        ctx.exit(ExitCode.FAILED)


def _inserts(
    client: Client,
    plan: Plan,
    total: int,
    interval: tuple[float, float],
    batch: tuple[float, float],
    dice: random.Random,
    interrupted: threading.Event,
) -> Iterator[list[tuple[Any, Document]]]:
    """Inserts the jobs, a batch and a pause at a time, and yields each batch when the database has it."""
    made = 0
    while made < total and not interrupted.is_set():
        size = min(dice.randint(int(batch[0]), int(batch[1])), total - made)
        jobs = [plan.job(number, dice) for number in range(made + 1, made + size + 1)]
        yield list(zip(client.submit(jobs), jobs, strict=True))
        made += size
        interrupted.wait(dice.uniform(*interval) if made < total else 0)


@contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, instead of breaking into an insert."""
    interrupted = threading.Event()

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        interrupted.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _print_summary(jobs: list[Document], seconds: float) -> None:
    def counted(field: str) -> str:
        return ", ".join(f"{name}: {number}" for name, number in sorted(Counter(job[field] for job in jobs).items()))

    facts = {
        "inserted": f"{len(jobs)} jobs in {format_duration(seconds)}",
        "projects": counted("project"),
        "owners": counted("owner"),
    }
    print_facts(facts)
