"""What an engine costs that has nothing to do."""

from __future__ import annotations

import time
from pathlib import Path

import click

from benchmarks.common import Figure, Report, figures, json_option, runs_option
from benchmarks.cpu import APART, Meter, memory
from benchmarks.engine import Engine, Site, an_engine, site_options

_BUSY = {"building", "submit", "request", "notification"}
_PATIENCE = 60.0
_MEBIBYTE = 2**20


def measure(engine: Engine, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """The share of a core and the memory (PSS, MiB) of each kind of process of an engine at rest."""
    with Meter(engine) as meter:
        begin = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begin
    shares = {kind: 100 * spent / passed for kind, spent in meter.spent().items() if kind not in APART}
    sizes = {kind: size / _MEBIBYTE for kind, size in memory(engine).items()}
    return shares, sizes


def come_to_rest(engine: Engine) -> None:
    """Waits until the actors that the first jobs needed have ended."""
    give_up = time.monotonic() + _PATIENCE
    while _BUSY & memory(engine).keys():
        if time.monotonic() > give_up:
            raise click.ClickException(f"the actors have not ended within {_PATIENCE:g} s")
        time.sleep(0.2)


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long each run takes.")
@runs_option(5)
@site_options
@json_option
def idle(seconds: float, runs: int, site: Site, json_file: Path | None) -> None:
    """The processor time and the memory of an engine that has nothing to do."""
    with an_engine(site) as engine, engine.running():
        come_to_rest(engine)
        measured = [measure(engine, seconds) for _ in range(runs)]
    report = [
        *_sums_and_parts("processor", "% of a core", [shares for shares, _ in measured], "< 0.5"),
        *_sums_and_parts("memory", "MiB (PSS)", [sizes for _, sizes in measured], "< 150"),
    ]
    Report("idle", {"seconds": seconds, **site.described}, report).finish(json_file)


def _sums_and_parts(group: str, unit: str, runs: list[dict[str, float]], goal: str) -> list[Figure]:
    kinds = sorted({kind for run in runs for kind, value in run.items() if value})
    total = Figure("all processes", unit, tuple(sum(run.values()) for run in runs), group, goal)
    return [total, *figures(group, dict.fromkeys(kinds, unit), runs)]
