"""The engine on each of its databases in turn, in one run: the embedded one, a MongoDB, a replica set of three.

The servers are genuine and our own (tests/testbed/mongod), on this machine: their processor time is told beside the engine's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pymongo import MongoClient

from benchmarks.common import ROOT, Figure, Report, json_option, runs_option
from benchmarks.cpu import DATABASE
from benchmarks.engine import Engine, Site, an_engine, site_options
from benchmarks.throughput import FINISHED, measure

EMBEDDED, ALONE, THREE = "embedded", "MongoDB", "MongoDB, three nodes"
_TESTBED = {ALONE: (), THREE: ("--replica-set",)}
_REQUESTS = "requests to the server"
_UNITS = {FINISHED: "jobs/s", "engine": "ms/job", DATABASE: "ms/job", _REQUESTS: "per job", "idle": "% of all cores"}


@contextmanager
def server(name: str) -> Iterator[str]:
    """The URL of the testbed's, which runs until the end of the block."""
    command = [sys.executable, str(ROOT / "tests" / "testbed" / "mongod"), *_TESTBED[name]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as testbed:
        assert testbed.stdin is not None
        assert testbed.stdout is not None
        try:
            url = testbed.stdout.readline().strip()
            if not url:
                raise click.ClickException(f"no {name}: see above")
            yield url
        finally:
            testbed.stdin.close()


def _requests(url: str | None) -> int:
    """What the primary was asked so far, by anybody."""
    if url is None:
        return 0
    with MongoClient[Any](url) as client:
        return int(client.admin.command("serverStatus")["network"]["numRequests"])


def measured(engine: Engine, jobs: int, url: str | None) -> dict[str, float]:
    """One run, with how often the server was asked."""
    before = _requests(url)
    found = measure(engine, jobs)
    return {DATABASE: 0.0, **found, _REQUESTS: (_requests(url) - before) / jobs}


@click.command()
@click.option("--jobs", default=2000, show_default=True, type=click.IntRange(1), help="Inserted at once.")
@runs_option(5)
@site_options
@json_option
def databases(jobs: int, runs: int, site: Site, json_file: Path | None) -> None:
    """Jobs per second on the embedded database, on a MongoDB and on a replica set, side by side."""
    with ExitStack() as stack:
        urls: dict[str, str | None] = {EMBEDDED: None}
        urls |= {name: stack.enter_context(server(name)) for name in _TESTBED}
        engines = {}
        for name, url in urls.items():
            engine = stack.enter_context(an_engine(replace(site, database=url)))
            stack.enter_context(engine.running())
            engines[name] = engine
        rounds = [{name: measured(engine, jobs, urls[name]) for name, engine in engines.items()} for _ in range(runs)]
    figures = [
        Figure(what, unit, tuple(one[name][what] for one in rounds), name) for name in urls for what, unit in _UNITS.items()
    ]
    for name in _TESTBED:
        shares = tuple(one[name][FINISHED] / one[EMBEDDED][FINISHED] for one in rounds)
        figures.append(Figure(f"{name} / {EMBEDDED}", "", shares, "rates of the same round"))
    Report("databases", {"jobs": jobs, **site.described}, figures).finish(json_file)
