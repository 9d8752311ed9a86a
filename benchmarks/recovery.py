"""How soon all jobs move again when every process of an engine was killed at once and the engine is started anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil

from benchmarks.common import Figure, Report, json_option, runs_option
from benchmarks.engine import Engine, Site, an_engine, site_options, temporary_directory
from execution_engine.client import Client
from execution_engine.jobs.status import Status

STARTED = "`execd start` has returned"
FIRST_END = "the first job of this host has ended"
BUILT = "all waiting jobs are built"
ASKED = "the cluster was asked about all of its jobs"

_GLANCE = 0.02
_PATIENCE = 300.0

_FAR = '''\
"""A system as far away as a cluster, with room for any number of jobs, none of which ends."""

import os
import time

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


class Options(execution_systems.Options):
    asked: str


@execution_systems.register
class Far(execution_systems.ExecutionSystem):
    Options = Options

    def run(self, job):
        return job.execution.name

    def find(self, job):
        return job.execution.name

    def get_status(self, job):
        return Status.RUNNING

    def get_statuses(self, jobs):
        with open(self.options.asked, "a") as file:
            file.write(f"{time.time()} {len(jobs)}\\n")
        return {job.text_id: Status.RUNNING for job in jobs}

    def kill(self, job):
        raise execution_systems.ExecutionSystemError("nothing ends here")
'''


def measure(engine: Engine, asked: Path, far: int, here: int) -> dict[str, float]:
    """One run: `far` jobs run on the far system, `here` jobs wait for this host while some of them are in actors' hands."""
    with engine.running(), engine.client() as client:
        client.submit({"command": ["true"], "tags": ["far"]} for _ in range(far))
        _until(lambda: client.store.count().get(Status.RUNNING, 0) >= far)
        client.submit({"command": ["true"]} for _ in range(here))
        _until(lambda: client.store.count().get(Status.SUBMITTING, 0))
        _kill_all(engine)
        return _start_again(engine, client, asked, far)


def _kill_all(engine: Engine) -> None:
    master = engine.master()
    processes = [master, *master.children(recursive=True), *engine.keepers()]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def _start_again(engine: Engine, client: Client, asked: Path, far: int) -> dict[str, float]:
    asked.unlink(missing_ok=True)
    ended = _ended(client)
    begin = time.time()
    engine.execd("start")
    started = time.time()
    _until(lambda: _ended(client) > ended)
    first = time.time()
    _until(lambda: not client.store.count().get(Status.TO_BE_BUILT, 0))
    built = time.time()
    _until(lambda: _asked_about(asked, far))
    moments = {STARTED: started, FIRST_END: first, BUILT: built, ASKED: _asked_about(asked, far)}
    return {name: moment - begin for name, moment in moments.items()}


def _asked_about(asked: Path, far: int) -> float:
    """When the far system was first asked about all of its jobs; 0: not yet."""
    lines = asked.read_text().splitlines() if asked.exists() else []
    moments = (line.split() for line in lines)
    return next((float(at) for at, count in moments if int(count) >= far), 0.0)


def _ended(client: Client) -> int:
    return client.store.count().get(Status.FINISHED, 0)


def _until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise click.ClickException(f"not within {_PATIENCE:g} s")
        time.sleep(_GLANCE)


@click.command()
@click.option("--far", default=9000, show_default=True, type=click.IntRange(1), help="Jobs that run on a cluster.")
@click.option("--here", default=1000, show_default=True, type=click.IntRange(1), help="Jobs that wait for this host.")
@runs_option(3)
@site_options
@json_option
def recovery(far: int, here: int, runs: int, site: Site, json_file: Path | None) -> None:
    """Seconds from `execd start` after a `kill -9` of all processes until the jobs move again."""
    measured = [_run(site, far, here) for _ in range(runs)]
    figures = [Figure(name, "s", tuple(run[name] for run in measured), goal="< 5") for name in measured[0]]
    settings = {"running on a cluster": far, "waiting here": here, **site.described}
    Report("recovery", settings, figures).finish(json_file)


def _run(site: Site, far: int, here: int) -> dict[str, float]:
    with temporary_directory() as scratch:
        asked = scratch / "asked"
        systems = {"here": {"class": "Local", "slots": site.slots}, "far": {"class": "Far", "asked": str(asked)}}
        routes = [
            {"name": "far", "rules": [{"tag": {"names": ["far"]}}], "execution_system": "far"},
            {"name": "default", "execution_system": "here"},
        ]
        with an_engine(site, execution_systems=systems, routes=routes) as engine:
            (engine.directory / "execution_systems" / "far.py").write_text(_FAR)
            return measure(engine, asked, far, here)
