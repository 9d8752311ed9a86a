"""The benchmarks measure what they say, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import report
from benchmarks.common import Figure, commit
from benchmarks.cpu import JOBS, Meter, servers_of
from benchmarks.engine import Site, an_engine, await_finished
from benchmarks.peers import Missing
from benchmarks.peers.command import ON_DISK, Entry, ratios_of
from benchmarks.peers.programs import environment
from benchmarks.peers.shells import xargs_wrapper
from tests.support.databases import GivenServer, MongoServer
from tests.support.engines import ROOT, end_processes, until
from tests.support.replica_set import ReplicaSet

pytestmark = pytest.mark.timeout(240)

SMALL = {
    "throughput": ["--jobs", "20", "--runs", "2", "--notify"],
    "latency": ["--jobs", "2", "--runs", "1", "--rest", "0.1"],
    "idle": ["--seconds", "0.3", "--runs", "1"],
    "scale": ["--jobs", "20", "--runs", "1", "--ended", "300", "--waiting", "200"],
}


def start(directory: Path, *words: str) -> subprocess.Popen[bytes]:
    """A benchmark whose temporary files are below `directory`."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_writes_every_value_of_every_run_and_leaves_nothing(name: str, short_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with start(short_dir, name, *SMALL[name], "--json", str(file)) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said.decode()
    content = json.loads(file.read_text())
    runs = int(SMALL[name][SMALL[name].index("--runs") + 1])
    assert content["benchmark"] == name
    assert content["commit"] == commit()
    assert {len(figure["values"]) for figure in content["figures"]} == {runs}
    assert any(max(figure["values"]) > 0 for figure in content["figures"])
    assert list(short_dir.iterdir()) == []


@pytest.mark.mongodb
def test_the_databases_are_measured_side_by_side_and_their_servers_ended(
    mongodb_server: MongoServer | GivenServer, short_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    with start(short_dir, "databases", "--jobs", "20", "--runs", "1", "--json", str(file)) as process:
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said.decode()
    figures = {(figure["group"], figure["name"]): figure["values"][0] for figure in json.loads(file.read_text())["figures"]}
    assert figures["MongoDB", "requests to the server"] > figures["embedded", "requests to the server"] == 0
    assert figures["MongoDB, three nodes", "insert to finished"] > 0
    assert list(short_dir.iterdir()) == []


@pytest.mark.mongodb
def test_all_servers_of_a_replica_set_are_looked_at(replica_set: ReplicaSet) -> None:
    assert servers_of(replica_set.url) == sorted(node.pid for node in replica_set.nodes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_interrupted_leaves_nothing(number: signal.Signals, short_dir: Path) -> None:
    with start(short_dir, "throughput", "--jobs", "1000") as process:
        try:
            pid_file = until(lambda: next(short_dir.glob("*/engine/run/execd.pid"), None), "an engine is running")
            master = psutil.Process(int(until(pid_file.read_text, "its process id is there")))
            process.send_signal(number)
            process.communicate(timeout=60)
            left = list(short_dir.iterdir())
            running = master.is_running() and master.status() != psutil.STATUS_ZOMBIE
        finally:
            end_processes(short_dir)
    assert not running
    assert left == []


def test_what_a_job_burns_is_not_counted_as_the_engines(short_dir: Path) -> None:
    burn = f"{sys.executable} -c 'import time\nwhile time.process_time() < 1: pass'"
    with an_engine(Site(directory=short_dir)) as measured, measured.running(), measured.client() as client:
        with Meter(measured) as meter:
            await_finished(client, client.submit([{"command": burn}]))
        spent = meter.spent()
    assert round(spent.pop(JOBS), 6) >= 1
    assert 0 < sum(spent.values()) < 1
    assert {"master", "monitor", "building", "submit", "status", "keeper"} <= spent.keys()


def test_the_wrapper_leaves_of_each_job_what_a_person_would_look_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with xargs_wrapper(2, tmp_path) as race:
        assert race(10) > 0
    monkeypatch.setenv("PATH", "/nowhere")
    with xargs_wrapper(2, tmp_path) as race, pytest.raises(FileNotFoundError):
        race(10)


def test_a_ratio_is_taken_within_each_round():
    rates = {ON_DISK: [100.0, 300.0], "other": [50.0, 100.0]}
    entry = Entry("other", xargs_wrapper(2, None), ON_DISK, "> 1")
    assert ratios_of(rates, [entry]) == [Figure(f"{ON_DISK} / other", "", (2.0, 3.0), "ratio", "> 1")]


def test_a_peer_that_cannot_be_installed_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="cannot be installed"):
        environment(tmp_path / "peer", [str(tmp_path / "no-such-package")])


def test_the_page_of_results_is_made_of_the_files_that_are_there():
    assert report.PAGE.read_text() == report.page()
