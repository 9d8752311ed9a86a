"""How many jobs of `true` an engine takes from insert to `finished` in a second, and what that costs each of its processes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.common import Figure, Report, figures, json_option, runs_option
from benchmarks.cpu import APART, Meter
from benchmarks.engine import Engine, Site, an_engine, run, site_options
from benchmarks.hook import Hook, a_hook

_SETTLE = 0.5
_PER_JOB = "ms/job"
_LITTLE = 0.005
_RATES = FINISHED, NOTIFIED = "insert to finished", "insert to notified"


def measure(engine: Engine, jobs: int, hook: Hook | None = None) -> dict[str, float]:
    """One run in a running engine: jobs/s, and milliseconds of processor time per job by kind of process."""
    with engine.client() as client:
        time.sleep(_SETTLE)
        with Meter(engine) as meter:
            begin = time.perf_counter()
            rates = {FINISHED: jobs / run(client, jobs)}
            if hook is not None:
                hook.wait(jobs)
                rates[NOTIFIED] = jobs / (time.perf_counter() - begin)
    spent = {kind: 1000 * value / jobs for kind, value in meter.spent().items()}
    own = sum(value for kind, value in spent.items() if kind not in APART)
    return {**rates, "engine": own, **spent, "idle": 100 * meter.idle(), "others": 100 * meter.others()}


def figures_of(group: str, runs: list[dict[str, float]], goal: str = "") -> list[Figure]:
    """What several runs gave, the costs in the order of their size."""
    kinds = {kind for one in runs for kind in one} - {*_RATES, "engine", "idle", "others", *APART}
    costs = sorted(figures(group, dict.fromkeys(kinds, _PER_JOB), runs), key=lambda cost: -cost.median)
    apart = [kind for kind in APART if any(kind in one for one in runs)]
    rates = [rate for rate in _RATES if rate in runs[0]]
    return [
        *figures(group, dict.fromkeys(rates, "jobs/s"), runs),
        Figure("engine, all processes", _PER_JOB, tuple(one["engine"] for one in runs), group, goal),
        *(cost for cost in costs if cost.median >= _LITTLE),
        *figures(group, {**dict.fromkeys(apart, _PER_JOB), "idle": "% of all cores", "others": "% of all cores"}, runs),
    ]


@click.command()
@click.option("--jobs", default=2000, show_default=True, type=click.IntRange(1), help="Inserted at once.")
@click.option("--notify", is_flag=True, help="Tell a web server, which runs here, of the end of each job.")
@runs_option(5)
@site_options
@json_option
def throughput(jobs: int, notify: bool, runs: int, site: Site, json_file: Path | None) -> None:
    """Jobs per second from insert to `finished`, and the engine's processor time per job by process."""
    with ExitStack() as stack:
        hook = stack.enter_context(a_hook()) if notify else None
        engine = stack.enter_context(an_engine(site, **(hook.sections if hook else {})))
        stack.enter_context(engine.running())
        measured = [measure(engine, jobs, hook) for _ in range(runs)]
    settings = {"jobs": jobs, **({"notified": "by http"} if notify else {}), **site.described}
    Report("throughput", settings, figures_of("", measured, goal="< 2")).finish(json_file)
