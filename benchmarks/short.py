"""The short form, for CI: the engine's rate as a share of that of the `xargs` wrapper in the same moments, everything in memory.

A share, because machines differ; neighbouring pairs, because one machine differs from moment to moment; in memory, because
disks differ most of all.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import click

from benchmarks.engine import Site, an_engine, run
from benchmarks.peers.shells import xargs_wrapper

BASELINE = Path(__file__).with_name("baseline.json")
_KEY = "engine / xargs wrapper, in memory"
_SLOTS = 2


def ratios(memory: Path, jobs: int, pairs: int) -> list[float]:
    """The ratio of each of several pairs of runs, one of the engine and one of the wrapper, below a directory in memory."""
    site = Site(_SLOTS, memory, memory)
    found = []
    with xargs_wrapper(_SLOTS, memory) as race, an_engine(site) as engine, engine.running(), engine.client() as client:
        for _ in range(pairs):
            seconds = run(client, jobs)
            found.append(race(jobs) / seconds)
    return found


def committed() -> float:
    """The ratio that the repository's engine had."""
    return float(json.loads(BASELINE.read_text())[_KEY])


@click.command()
@click.option("--memory", default="/dev/shm", show_default=True, type=click.Path(path_type=Path, exists=True), help="A tmpfs.")
@click.option("--jobs", default=600, show_default=True, help="In each run.")
@click.option("--pairs", default=9, show_default=True, help="How often both are measured.")
def baseline(memory: Path, jobs: int, pairs: int) -> None:
    """Measure the short form that CI compares with, and write it into baseline.json."""
    found = ratios(memory, jobs, pairs)
    click.echo(f"{pairs} pairs: " + ", ".join(f"{ratio:.2f}" for ratio in sorted(found)))
    BASELINE.write_text(json.dumps({_KEY: round(statistics.median(found), 2)}) + "\n")
