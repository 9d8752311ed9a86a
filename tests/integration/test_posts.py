"""Actors and fork servers that die or stand still: it is told, it is mended, and no job pays for what is not its fault."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.engine_fixtures import TWO_SLOTS, MakeEngine
from tests.support.engines import Engine, until

RULE = '''
import os
import time
from pathlib import Path

from execution_engine.job_routing import rules


@rules.register
def stands_still(job):
    """Does to its process what the job's environment says, while the file of that name is there."""
    for what, do in (("DIES", lambda: os.kill(os.getpid(), 40)), ("HANGS", lambda: time.sleep(1000))):
        if what in job.env and os.path.exists(job.env[what]):
            do()
    return False
'''
ROUTES = [
    {"name": "odd", "rules": ["stands_still"], "execution_system": "here"},
    {"name": "default", "execution_system": "here"},
]
QUICK = {"actor_deadline": "1s", "crashes": 3, "retry_delay": {"min": "0.1s", "max": "0.5s"}}


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """A running engine whose building actors misbehave on demand."""
    engine = make_engine(execution_systems=TWO_SLOTS, routes=ROUTES, engine=QUICK)
    (engine.directory / "routing_rules" / "odd.py").write_text(RULE)
    engine.start()
    return engine


@pytest.fixture
def broken(short_dir: Path) -> Path:
    """While this file is there, something that all jobs need is out of order."""
    file = short_dir / "broken"
    file.touch()
    return file


def post_fails(engine: Engine) -> dict[str, object] | None:
    return next((outage for outage in engine.state()["outages"] if outage["what"] == "post building"), None)


@pytest.mark.parametrize(("how", "words"), [("DIES", "ended by signal 40"), ("HANGS", "hung: no progress for 1 s")])
def test_a_post_whose_actors_die_one_after_the_other_is_an_outage_and_costs_no_job(
    engine: Engine, broken: Path, how: str, words: str
) -> None:
    ids = engine.submit(*({"command": ["true"], "env": {how: str(broken)}} for _ in range(6)))
    outage = until(lambda: post_fails(engine), "the state tells of it")
    assert words in str(outage["error"])
    done = engine.execd("status", check=False)
    assert (done.returncode, "post building" in done.stdout) == (1, True)
    done = engine.execd("doctor", check=False)
    assert (done.returncode, "post building" in done.stdout) == (1, True)
    before = outage["count"]
    until(lambda: (now := post_fails(engine)) and now["count"] > before, "it is tried again")
    assert engine.execd("status", check=False).returncode == 1
    broken.unlink()
    assert {job["status"] for job in engine.wait(ids)} == {"finished"}
    until(lambda: not post_fails(engine), "the outage is over")
    assert engine.execd("status").returncode == 0
    assert engine.state()["monitor"]["restarts"] == 0


@pytest.mark.parametrize("how", ["DIES", "HANGS"])
def test_a_job_that_ends_its_building_actor_again_and_again_pays_for_it_where_the_others_show_that_it_is_its_fault(
    engine: Engine, broken: Path, how: str
) -> None:
    (bad,) = engine.submit({"command": ["true"], "env": {how: str(broken)}})
    with engine.client() as client:

        def is_over() -> bool:
            assert engine.run({"command": ["true"]})[0]["status"] == "finished"
            return client.statuses([bad])[bad] == "error"

        until(is_over, "the job has ended", timeout=60)
    assert engine.job(bad)["exit"]["reason"] == "actor crashed"


def test_a_fork_server_that_stands_still_is_replaced(engine: Engine) -> None:
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"
    server = engine.process("execd: fork server")
    assert server is not None
    until(lambda: not server.children(), "its actors have ended")
    server.send_signal(signal.SIGSTOP)
    (job,) = engine.run({"command": ["true"]}, timeout=20)
    assert job["status"] == "finished"
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert "gave no sign of life" in engine.log()


def test_a_fork_server_that_stands_still_over_a_hung_actor_is_replaced(engine: Engine, broken: Path) -> None:
    """Nobody else can kill the actor, or tells how it ended."""
    (job_id,) = engine.submit({"command": ["true"], "env": {"HANGS": str(broken)}})
    engine.until_status(job_id, "building")
    server = engine.process("execd: fork server")
    assert server is not None
    server.send_signal(signal.SIGSTOP)
    broken.unlink()
    assert engine.wait([job_id], timeout=20)[0]["status"] == "finished"


def test_an_actor_whose_fork_server_cannot_tell_its_end_is_not_waited_for(engine: Engine) -> None:
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"
    server = engine.process("execd: fork server")
    assert server is not None
    actor = until(server.children, "an actor lingers")[0]
    server.send_signal(signal.SIGSTOP)
    os.kill(actor.pid, signal.SIGKILL)
    assert engine.run({"command": ["true"]}, timeout=20)[0]["status"] == "finished"
