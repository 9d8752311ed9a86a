"""How long one job takes that comes to an engine with nothing else to do."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import click

from benchmarks.common import Figure, Report, json_option, runs_option
from benchmarks.engine import Engine, Site, an_engine, site_options
from execution_engine.client import Client

WITH_CONFIGURATION = "inserted with the engine's configuration"
WITH_DRIVER = "inserted with a driver only"
_GOALS = {"started p50": "< 50", "started p95": "< 150", "finished p50": "< 100"}


def measure(client: Client, jobs: int, rest: float) -> dict[str, float]:
    """Milliseconds from before the insert of one job at a time until it was started, and until it was stored as `finished`.

    Before each there is a pause of random length, up to `rest` seconds: some jobs find the actors at work still, some find
    none.
    """
    started, finished = [], []
    for _ in range(jobs):
        time.sleep(random.uniform(0, rest))
        begin = time.time()
        ids = client.submit([{"command": ["true"]}])
        client.wait(ids)
        job = client.get(ids[0])
        if job["status"] != "finished":
            raise click.ClickException(f"a job of `true` is {job['status']}")
        started.append(1000 * (job["times"]["started"].timestamp() - begin))
        finished.append(1000 * (job["history"][-1]["at"].timestamp() - begin))
    return {**_percentiles("started", started), **_percentiles("finished", finished)}


def _percentiles(name: str, values: list[float]) -> dict[str, float]:
    return {
        f"{name} p50": statistics.median(values),
        f"{name} p95": statistics.quantiles(values, n=20, method="inclusive")[-1],
        f"{name} max": max(values),
    }


@click.command()
@click.option("--jobs", default=20, show_default=True, type=click.IntRange(2), help="In each run, one after the other.")
@click.option("--rest", default=4.0, show_default=True, help="Seconds of the longest pause between two.")
@runs_option(5)
@site_options
@json_option
def latency(jobs: int, rest: float, runs: int, site: Site, json_file: Path | None) -> None:
    """Milliseconds from an insert into an idle engine to the job's start, and to `finished`."""
    measured: dict[str, list[dict[str, float]]] = {WITH_CONFIGURATION: [], WITH_DRIVER: []}
    with an_engine(site) as engine, engine.running():
        for _ in range(runs):
            for name, client in _clients(engine).items():
                with client:
                    measured[name].append(measure(client, jobs, rest))
    figures = [
        Figure(name, "ms", tuple(run[name] for run in measured[group]), group, _GOALS.get(name, ""))
        for group in measured
        for name in measured[group][0]
    ]
    Report("latency", {"jobs": jobs, "pauses up to": f"{rest:g} s", **site.described}, figures).finish(json_file)


def _clients(engine: Engine) -> dict[str, Client]:
    return {WITH_CONFIGURATION: engine.client(), WITH_DRIVER: Client(engine.config.database)}
