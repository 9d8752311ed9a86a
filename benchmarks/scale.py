"""Whether an engine is slower or larger for the jobs that its database holds: ended ones, and ones that wait for a long time.

Each database is filled once, with copies of a job's document as an engine left it.  Then, in each round, an engine is started on
each of them in turn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from bson import ObjectId

from benchmarks import throughput
from benchmarks.common import CONSOLE, Figure, Report, json_option, runs_option
from benchmarks.cpu import memory
from benchmarks.engine import Engine, Site, an_engine, await_finished, site_options
from execution_engine.client import Client
from execution_engine.jobs.status import Status

EMPTY = "empty database"
_BATCH = 10_000
_PATIENCE = 60.0
_MEBIBYTE = 2**20
_FAR_OFF = timedelta(days=3650)

Document = dict[str, Any]


def ended(client: Client) -> Document:
    """The document of a job that has finished."""
    ids = client.submit([{"command": ["true"]}])
    await_finished(client, ids)
    return client.get(ids[0])


def waiting(client: Client) -> Document:
    """The document of a job that waits for a moment in ten years, which the engine has seen."""
    [job] = client.submit([{"command": ["true"], "not_before": datetime.now(UTC) + _FAR_OFF}])
    return _when(client, job, lambda document: document.get("due_at") is not None)


def on_hold(client: Client) -> Document:
    """The document of a job that is held back."""
    job = waiting(client)["_id"]
    client.request([job], "hold")
    return _when(client, job, lambda document: document["status"] == Status.HOLD)


def _when(client: Client, job: Any, condition: Callable[[Document], bool]) -> Document:
    give_up = time.monotonic() + _PATIENCE
    while not condition(document := client.get(job)):
        if time.monotonic() > give_up:
            raise click.ClickException(f"a job is {document['status']} and not what it should be after {_PATIENCE:g} s")
        time.sleep(0.02)
    return document


@dataclass(frozen=True, slots=True)
class Level:
    """A database with so many copies of a job."""

    name: str
    number: int
    sample: Callable[[Client], Document]

    def fill(self, engine: Engine) -> None:
        """Puts them into an engine's database; the engine is down again afterwards."""
        with engine.running(), engine.client() as client:
            document = self.sample(client)
        with engine.client() as client:
            for batch in _copies(document, self.number):
                client.store.insert(batch)


def _copies(document: Document, number: int) -> Iterator[list[Document]]:
    """Documents that differ in their ids and directories, in batches."""
    parent = Path(document.get("dir", "")).parent
    for done in range(0, number, _BATCH):
        ids = [ObjectId() for _ in range(min(_BATCH, number - done))]
        yield [{**document, "_id": job, **({"dir": str(parent / str(job))} if "dir" in document else {})} for job in ids]


def levels(ended_numbers: Sequence[int], waiting_number: int) -> list[Level]:
    """An empty database first, with which the others are compared."""
    return [
        Level(EMPTY, 0, ended),
        *(Level(f"{number:,} ended", number, ended) for number in ended_numbers),
        Level(f"{waiting_number:,} wait for a date", waiting_number, waiting),
        Level(f"{waiting_number:,} on hold", waiting_number, on_hold),
    ]


@click.command()
@click.option("--jobs", default=2000, show_default=True, type=click.IntRange(1), help="Inserted at once in each run.")
@click.option("--ended", "ended_numbers", default=[100_000, 1_000_000], show_default=True, multiple=True, help="Repeatable.")
@click.option("--waiting", "waiting_number", default=100_000, show_default=True, help="Jobs that wait.")
@runs_option(5)
@site_options
@json_option
def scale(jobs: int, ended_numbers: Sequence[int], waiting_number: int, runs: int, site: Site, json_file: Path | None) -> None:
    """The throughput and the engine's memory with many ended and many waiting jobs in the database."""
    with ExitStack() as stack:
        engines = [(level, stack.enter_context(an_engine(site))) for level in levels(ended_numbers, waiting_number)]
        for level, engine in engines:
            begin = time.monotonic()
            level.fill(engine)
            CONSOLE.print(f"{level.name}: filled in {time.monotonic() - begin:.0f} s")
        measured: dict[str, list[dict[str, float]]] = {level.name: [] for level, _ in engines}
        for number in range(runs):
            CONSOLE.print(f"round {number + 1} of {runs}")
            for level, engine in random.sample(engines, len(engines)):  # whatever else the machine does meets each of them
                measured[level.name].append(_measure(engine, jobs))
    figures = [figure for name, of_level in measured.items() for figure in _figures(name, of_level, measured[EMPTY])]
    Report("scale", {"jobs": jobs, **site.described}, figures).finish(json_file)


def _measure(engine: Engine, jobs: int) -> dict[str, float]:
    with engine.running():
        measured = throughput.measure(engine, jobs)
        return {**measured, "memory": sum(memory(engine).values()) / _MEBIBYTE}


def _figures(name: str, runs: list[dict[str, float]], empty: list[dict[str, float]]) -> list[Figure]:
    """`ratio`: to the empty database in the same round."""
    pairs = list(zip(runs, empty, strict=True))
    goal = "" if runs is empty else "> 0.85"
    return [
        Figure(throughput.FINISHED, "jobs/s", tuple(run[throughput.FINISHED] for run in runs), name),
        Figure(
            "ratio to the empty database",
            "",
            tuple(run[throughput.FINISHED] / other[throughput.FINISHED] for run, other in pairs),
            name,
            goal,
        ),
        Figure("engine, all processes", "ms/job", tuple(run["engine"] for run in runs), name),
        Figure("engine at work, memory", "MiB (PSS)", tuple(run["memory"] for run in runs), name),
    ]
