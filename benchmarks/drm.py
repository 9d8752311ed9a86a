"""Jobs of `true` through a real Grid Engine cell, beside a bare loop of submissions in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.common import ROOT, Figure, Report, figures, json_option, runs_option
from benchmarks.cpu import APART, Meter
from benchmarks.engine import Engine, Site, an_engine, await_finished
from execution_engine.systems.commands import Commands
from execution_engine.systems.ogs import OGS
from execution_engine.systems.ogs_commands import QUEUE, read_queue

_VARIABLES = {
    "SGE_ROOT": "root",
    "SGE_CELL": "cell",
    "SGE_QMASTER_PORT": "qmaster_port",
    "DRMAA_LIBRARY_PATH": "drmaa_library",
}
_OTHERS = "the cell, and others"
_ANSWER = 60.0
_DRAINED = 300.0


class Cell:
    """The cell that the environment names."""

    def __init__(self) -> None:
        self.options = {option: os.environ[name] for name, option in _VARIABLES.items() if os.environ.get(name)}
        if "drmaa_library" not in self.options:
            raise click.ClickException('name a cell first: eval "$(tests/testbed/gridengine up)"')
        options = OGS.Options.model_validate(self.options)
        self._environment = {**os.environ, **OGS.environment(options)}
        self._commands = Commands("the cell", options.commands, self._environment, _ANSWER)

    @property
    def sections(self) -> dict[str, Any]:
        """Of the configuration of an engine that gives all jobs to the cell."""
        system = {"class": "OGS", **self.options}
        return {"execution_systems": {"cluster": system}, "routes": [{"name": "all", "execution_system": "cluster"}]}

    def bare(self, jobs: int) -> float:
        """Seconds for which a bare loop submits so many jobs; the cell is empty afterwards."""
        words = [sys.executable, "-m", "benchmarks.bare_drmaa", str(jobs)]
        done = subprocess.run(words, env=self._environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise click.ClickException(f"the bare loop failed: {done.stderr}")
        self.drain()
        return float(done.stdout)

    def drain(self) -> None:
        """Waits until nothing is queued or runs."""
        give_up = time.monotonic() + _DRAINED
        while queued := read_queue(self._commands.ask(QUEUE)):
            if time.monotonic() > give_up:
                raise click.ClickException(f"{len(queued)} jobs are still in the cell after {_DRAINED:g} s")
            time.sleep(0.5)


def measure(cell: Cell, engine: Engine, jobs: int) -> dict[str, float]:
    """One run.  The bare loop goes before and after the engine, because the speed of a cell varies from minute to minute."""
    cell.drain()
    bare = cell.bare(jobs)
    with engine.client() as client:
        with Meter(engine) as meter:
            began = time.perf_counter()
            ids = client.submit({"command": ["true"]} for _ in range(jobs))
            await_finished(client, ids)
            seconds = time.perf_counter() - began
        submission = _submission([client.get(job_id) for job_id in ids])
    bare = (bare + cell.bare(jobs)) / 2
    spent = {kind: 1000 * value / jobs for kind, value in meter.spent().items() if kind not in APART}
    return {
        "bare": jobs / bare,
        "submitted": jobs / submission,
        "ratio": bare / submission,
        "ended": jobs / seconds,
        "engine": sum(spent.values()),
        **spent,
        _OTHERS: 100 * meter.others(),
    }


def _submission(jobs: list[dict[str, Any]]) -> float:
    """Seconds from the first claim of a job to the moment in which the last one had its id."""
    claimed = min(entry["at"] for job in jobs for entry in job["history"] if entry["status"] == "submitting")
    return float((max(job["times"]["submitted"] for job in jobs) - claimed).total_seconds())


def figures_of(runs: list[dict[str, float]]) -> list[Figure]:
    """What several runs gave."""
    wanted = [
        ("bare", "bare loop, submission", "jobs/s", ""),
        ("submitted", "engine, submission", "jobs/s", ""),
        ("ratio", "engine to bare loop", "", "≥ 0.8"),
        ("ended", "engine, insert to finished", "jobs/s", ""),
        ("engine", "engine, all processes", "ms/job", "< 10"),
    ]
    told = [Figure(name, unit, tuple(run[key] for run in runs), goal=goal) for key, name, unit, goal in wanted]
    kinds = {kind for run in runs for kind in run} - {key for key, *_ in wanted} - {_OTHERS}
    costs = sorted(figures("", dict.fromkeys(kinds, "ms/job"), runs), key=lambda cost: -cost.median)
    return [*told, *costs, *figures("", {_OTHERS: "% of all cores"}, runs)]


@click.command()
@click.option("--jobs", default=500, show_default=True, type=click.IntRange(1), help="Inserted at once.")
@runs_option(5)
@click.option("--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where the engine is made.")
@json_option
def drm(jobs: int, runs: int, directory: Path | None, json_file: Path | None) -> None:
    """Submission to Grid Engine beside a bare DRMAA loop, and the engine's processor time per job.

    The cell is the one of SGE_ROOT, SGE_CELL, SGE_QMASTER_PORT and DRMAA_LIBRARY_PATH: eval "$(tests/testbed/gridengine up)".
    Nobody else may use it meanwhile.
    """
    cell, site = Cell(), Site(directory=directory)
    with an_engine(site, **cell.sections) as engine, engine.running():
        measured = [measure(cell, engine, jobs) for _ in range(runs)]
    settings = {"jobs": jobs, "cell": cell.options.get("cell", "default"), "database": site.described["database"]}
    Report("drm", settings, figures_of(measured)).finish(json_file)
