"""Jobs that wait for a slot or are taken ahead: no slot stays empty, and no job runs beyond the slots, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from execution_engine.systems.local_keeper.processes import Identity
from execution_engine.systems.local_keeper.records import Order, read
from tests.support.engine_fixtures import TWO_SLOTS, MakeEngine
from tests.support.engines import Engine, statuses, until
from tests.support.execution_systems import local
from tests.support.fault_points import FaultPoints
from tests.support.job_sites import PATH, JobSite

LONG = {"command": ["sleep", "100"]}
SHORT = {"command": ["true"]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    """With two slots."""
    site = JobSite(tmp_path, lambda context: local(context, slots=2), kill_delay=1.0)
    yield site
    site.end()


@pytest.fixture
def busy(short_dir: Path) -> Path:
    """Where each running job has a file."""
    directory = short_dir / "busy"
    directory.mkdir()
    return directory


def slots(number: int) -> dict[str, Any]:
    return {"here": {"class": "Local", "slots": number}}


def begin(engine: Engine, *documents: dict[str, Any]) -> list[Any]:
    """Submits jobs, and returns when all of them run."""
    ids = engine.submit(*documents)
    for job_id in ids:
        engine.until_status(job_id, "running")
    return ids


def until_full(engine: Engine) -> None:
    until(lambda: engine.state()["systems"]["here"]["full"], "the engine takes all slots for taken")


def leave_a_remnant(engine: Engine) -> Path:
    """Runs a job that leaves a process, which holds its slot until the file that is returned is there."""
    go = engine.directory / "go"
    (job,) = engine.run({"command": f"trap '' TERM; while [ ! -e {go} ]; do sleep 0.05; done & exit 0"})
    assert job["status"] == "finished"
    return go


def most_at_once(engine: Engine, busy: Path) -> int:
    """Runs short jobs, each of which counts those that run."""
    script = f"touch {busy}/$EXECD_JOB_ID; ls {busy} | wc -l >seen; sleep 0.05; rm {busy}/$EXECD_JOB_ID"
    jobs = engine.run(*({"command": script} for _ in range(15)))
    return max(int((Path(job["dir"]) / "seen").read_text()) for job in jobs)


def test_a_waiting_job_starts_when_the_last_process_that_another_left_is_gone(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine={"kill_delay": "100s"})
    engine.start()
    begin(engine, LONG)
    go = leave_a_remnant(engine)
    (waiting,) = engine.submit(SHORT)
    until_full(engine)
    go.touch()
    engine.until_status(waiting, "finished")


def test_a_small_job_goes_on_when_the_large_one_before_it_found_no_room_and_is_killed(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=slots(3), engine={"kill_delay": "100s"})
    engine.start()
    begin(engine, LONG)
    leave_a_remnant(engine)
    large, small = engine.submit({**SHORT, "resources": {"cores": 2}}, SHORT)
    until_full(engine)
    with engine.client() as client:
        assert client.request([large], "kill") == [large]
    assert [job["status"] for job in engine.wait([large, small])] == ["killed", "finished"]


def test_a_waiting_job_starts_though_the_actor_that_stored_the_end_of_another_died_before_it_told(
    make_engine: MakeEngine, short_dir: Path
) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS)
    points, point, go = FaultPoints(short_dir / "points"), "status here JobStore.apply after", short_dir / "go"
    engine.execd("start", env=points.environment)
    begin(engine, LONG, {"command": f"while [ ! -e {go} ]; do sleep 0.05; done"})
    (waiting,) = engine.submit(SHORT)
    until_full(engine)
    points.arm([point])
    go.touch()
    assert not points.missed({point}, within=20)
    engine.until_status(waiting, "finished")


def test_a_large_job_is_not_claimed_again_and_again_while_small_ones_of_a_higher_priority_pass(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=slots(3))
    engine.start()
    begin(engine, LONG, LONG)
    (large,) = engine.submit({**SHORT, "resources": {"cores": 3}})
    engine.until_status(large, "to be submitted")
    for _ in range(4):
        engine.run(*({**SHORT, "priority": 1} for _ in range(6)))
    assert "submitting" not in statuses(engine.job(large))


def test_jobs_that_a_stopped_engine_left_running_keep_their_slots(make_engine: MakeEngine, short_dir: Path, busy: Path) -> None:
    shared = {"database": {"url": f"sqlite:///{short_dir / 'shared.db'}"}, "execution_systems": TWO_SLOTS}
    one, other = make_engine("one", **shared), make_engine("other", **shared)
    one.start()
    begin(one, {"command": f"touch {busy}/long; sleep 100"})
    one.stop()
    other.start()
    assert most_at_once(other, busy) == 2


def test_jobs_keep_their_slots_when_the_run_directory_changes(make_engine: MakeEngine, busy: Path) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS)
    engine.start()
    begin(engine, {"command": f"touch {busy}/long; sleep 100"})
    engine.stop()
    engine.change(run_dir=str(engine.directory / "other-run"))
    engine.start()
    assert most_at_once(engine, busy) == 2


def test_a_keeper_that_stood_still_does_not_start_the_job_of_an_actor_that_is_dead(site: JobSite) -> None:
    first, job = site.start(["sleep", "100"]), site.job(["true"])
    keeper = Identity.parse(until(lambda: read(str(first.dir), 1).process, "the record").keeper)
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGSTOP)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as actor:
        actor.connect(str(site.run_dir / "local-here.2.sock"))
        order = Order(str(job.dir), 1, 0, 0, 1)
        request = {"op": "run", "jobs": [order], "environment": {"PATH": PATH}, "slots": 2, "until": 1e12}
        actor.sendall(json.dumps(request).encode() + b"\n")
    os.kill(keeper.pid, signal.SIGCONT)
    site.wait(site.start(["true"]))  # the keeper has seen what came before this one
    assert site.system.find(job) is None
