"""A thousand jobs that wait in a real Grid Engine cell: what asking about them costs the cell, and the engine."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.gridengine import Cell

pytestmark = pytest.mark.gridengine

JOBS = 1000
SHORTEST, LONGEST = 0.5, 1.0
"""seconds: the engine's status_interval here"""
WHILE = 6.0
"""seconds for which is looked on"""
WAITING = {"command": ["true"], "resources": {"native": "-a 203001010000"}}

COUNTING = """#!/bin/sh
echo "$*" >>{counts}
exec {program} "$@"
"""


class CountedCommands:
    """The cell's commands, of which each qstat is written down, with its arguments."""

    def __init__(self, cell: Cell, directory: Path) -> None:
        self.directory = directory / "commands"
        self._counts = directory / "qstats"
        self.directory.mkdir()
        self._counts.touch()
        for name in ("qconf", "qacct"):
            (self.directory / name).symlink_to(cell.commands / name)
        qstat = self.directory / "qstat"
        qstat.write_text(COUNTING.format(counts=self._counts, program=cell.commands / "qstat"))
        qstat.chmod(0o755)

    def qstats(self) -> int:
        """How often qstat was run so far."""
        return len(self._counts.read_text().splitlines())


@pytest.fixture
def commands(gridengine: Cell, short_dir: Path) -> CountedCommands:
    return CountedCommands(gridengine, short_dir)


@pytest.fixture
def engine(gridengine: Cell, commands: CountedCommands, make_engine: MakeEngine) -> Iterator[Engine]:
    """An engine whose jobs are taken out of the cell afterwards."""
    settings = gridengine.settings(commands=str(commands.directory))
    settings["engine"]["status_interval"] = {"min": f"{SHORTEST}s", "max": f"{LONGEST}s"}
    engine = make_engine(**settings)
    engine.start()
    yield engine
    engine.stop()
    with engine.client() as client:
        native_ids = [job["execution"]["job_no"] for job in client.find() if job["execution"]["job_no"]]
    gridengine.run("qdel", *native_ids)


def longest_turns(engine: Engine, seconds: float) -> list[float]:
    """The longest time in each interval for which the monitor was busy between two waits, in seconds: strace sees it wait."""
    monitor = engine.process("execd: monitor")
    assert monitor is not None
    trace = engine.directory / "trace"
    words = ["strace", "-qq", "-ttt", "-T", "-e", "trace=epoll_wait,epoll_pwait", "-o", str(trace), "-p", str(monitor.pid)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as tracer:
        time.sleep(seconds)
        tracer.terminate()
    waits = [(float(wait[1]), float(wait[2])) for wait in re.finditer(r"^(\S+) epoll.*<(\S+)>$", trace.read_text(), re.MULTILINE)]
    longest: dict[int, float] = {}
    for (began, lasted), (next_one, _) in itertools.pairwise(waits):
        interval = int((began - waits[0][0]) / LONGEST)
        longest[interval] = max(longest.get(interval, 0.0), next_one - began - lasted)
    return list(longest.values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: install the package strace")
def test_a_thousand_waiting_jobs_cost_one_qstat_per_interval_and_no_long_turn(engine: Engine, commands: CountedCommands) -> None:
    begun = time.monotonic()
    ids = engine.submit(*[WAITING] * JOBS)
    with engine.client() as client:
        until(lambda: set(client.statuses(ids).values()) == {"pending"}, "all of them wait in the cell", timeout=60)
    assert commands.qstats() <= (time.monotonic() - begun) / SHORTEST + 1
    before, since = commands.qstats(), time.monotonic()
    busy = longest_turns(engine, WHILE)
    asked, intervals = commands.qstats() - before, (time.monotonic() - since) / LONGEST
    assert 2 <= asked <= intervals + 1
    assert len(busy) >= WHILE / LONGEST / 2
    assert min(busy) < 0.1, "all turns of the interval in which the machine had least to do beside it"
    with engine.client() as client:
        assert set(client.statuses(ids).values()) == {"pending"}
