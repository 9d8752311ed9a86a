"""execd and its peers, one after the other in each round, so that they meet the same machine and ratios can be quoted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.common import CONSOLE, Figure, Report, json_option, runs_option
from benchmarks.engine import Site, an_engine, run, temporary_directory
from benchmarks.peers import Missing, Race
from benchmarks.peers.programs import fireworks, hyperqueue
from benchmarks.peers.shells import parallel, xargs, xargs_wrapper

IN_MEMORY, ON_DISK = "execd, jobs in memory", "execd, jobs on disk"


@dataclass(frozen=True, slots=True)
class Entry:
    """Who takes part: `rival` is the engine that it is compared with, `goal` what that must reach, for people."""

    name: str
    context: AbstractContextManager[Race]
    rival: str = ""
    goal: str = ""
    few: bool = False


@contextmanager
def execd(site: Site) -> Iterator[Race]:
    """An engine that is running and warm."""
    with an_engine(site) as engine, engine.running():

        def race(jobs: int) -> float:
            with engine.client() as client:
                return run(client, jobs)

        yield race


def _entries(slots: int, memory: Path, disk: Path | None, environments: Path) -> list[Entry]:
    return [
        Entry(IN_MEMORY, execd(Site(slots, disk, memory))),
        Entry(ON_DISK, execd(Site(slots, disk))),
        Entry("xargs, nothing else", xargs(slots), IN_MEMORY),
        Entry("xargs wrapper, in memory", xargs_wrapper(slots, memory), IN_MEMORY, "> 0.5"),
        Entry("xargs wrapper, on disk", xargs_wrapper(slots, disk), ON_DISK),
        Entry("HyperQueue, in memory", hyperqueue(slots, memory, environments), IN_MEMORY, "> 1"),
        Entry("GNU parallel, in memory", parallel(slots, memory), IN_MEMORY),
        Entry("FireWorks, in memory", fireworks(memory, environments), IN_MEMORY, few=True),
    ]


@click.command()
@click.option("--jobs", default=3000, show_default=True, type=click.IntRange(1), help="For each, in each round.")
@click.option("--few", default=100, show_default=True, type=click.IntRange(1), help="For FireWorks, which is slow.")
@runs_option(5)
@click.option("--slots", default=2, show_default=True, type=click.IntRange(1), help="Jobs at a time.")
@click.option("--memory", default="/dev/shm", show_default=True, type=click.Path(path_type=Path, exists=True), help="A tmpfs.")
@click.option("--disk", type=click.Path(path_type=Path, exists=True), help="A disk; default: where temporary files are.")
@click.option("--environments", type=click.Path(path_type=Path), help="Keep the peers' virtual environments here.")
@json_option
def peers(
    jobs: int,
    few: int,
    runs: int,
    slots: int,
    memory: Path,
    disk: Path | None,
    environments: Path | None,
    json_file: Path | None,
) -> None:
    """execd beside xargs, HyperQueue, GNU parallel and FireWorks; what is not here is left out, and said."""
    notes: list[str] = []
    with ExitStack() as stack:
        where = environments or stack.enter_context(temporary_directory())
        entrants: dict[str, tuple[Entry, Race]] = {}
        for entry in _entries(slots, memory, disk, where):
            try:
                entrants[entry.name] = entry, stack.enter_context(entry.context)
            except Missing as missing:
                notes.append(f"left out: {missing}")
        rates: dict[str, list[float]] = {name: [] for name in entrants}
        for number in range(runs):
            CONSOLE.print(f"round {number + 1} of {runs}")
            for name, (entry, race) in entrants.items():
                gc.collect()
                count = few if entry.few else jobs
                rates[name].append(count / race(count))
    settings = {"jobs": jobs, "jobs of FireWorks": few, "slots": slots, "in memory": str(memory), "database": "embedded, on disk"}
    Report("peers", settings, [*rates_of(rates), *ratios_of(rates, [entry for entry, _ in entrants.values()])], notes).finish(
        json_file
    )


def rates_of(rates: dict[str, list[float]]) -> list[Figure]:
    return [Figure(name, "jobs/s", tuple(values), "rate") for name, values in rates.items()]


def ratios_of(rates: dict[str, list[float]], entries: list[Entry]) -> list[Figure]:
    """How many times as fast as each peer the engine was, within each round."""
    return [
        Figure(
            f"{entry.rival} / {entry.name}",
            "",
            tuple(ours / theirs for ours, theirs in zip(rates[entry.rival], rates[entry.name], strict=True)),
            "ratio",
            entry.goal,
        )
        for entry in entries
        if entry.rival
    ]
