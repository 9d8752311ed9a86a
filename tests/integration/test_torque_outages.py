"""Torque's server is away, hangs, or answers in part: nothing is decided about any job, and all goes on when it is back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, statuses, until
from tests.support.real_torque import REAL
from tests.support.torque_stand_in import StandIn

UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.05; done"


@pytest.fixture
def engine(torque: StandIn, make_engine: MakeEngine) -> Engine:
    engine = make_engine(**torque.settings(timeout="1s"))
    engine.start()
    return engine


def system(engine: Engine) -> dict[str, Any]:
    return engine.state()["systems"]["pbs"]


def lines(engine: Engine, words: str) -> list[str]:
    return [line for line in engine.log().splitlines() if words in line]


def runs(job: dict[str, Any]) -> str:
    return (Path(job["dir"]) / "runs").read_text()


@pytest.mark.parametrize("how", ["down", "hung", *(["killed"] if REAL else [])])
def test_a_server_that_does_not_answer_changes_no_status_and_is_waited_for(engine: Engine, torque: StandIn, how: str) -> None:
    running, ending = engine.submit({"command": UNTIL_TOLD}, {"command": f"{UNTIL_TOLD}; exit 3"})
    directories = [Path(engine.until_status(job_id, "running")["dir"]) for job_id in (running, ending)]
    torque.mark(how)
    (new,) = engine.submit({"command": "echo run >>runs"})
    until(lambda: not system(engine)["ok"], "execd status shows the outage")
    (directories[1] / "go").touch()
    assert engine.wait([ending])[0]["exit"]["code"] == 3  # its record tells, without the server
    until(lambda: [outage for outage in engine.state()["outages"] if outage["count"] > 2], "it is tried again and again")
    assert engine.job(running)["status"] == "running"
    assert engine.job(new)["status"] in ("to be submitted", "submitting")
    torque.unmark(how)
    (job,) = engine.wait([new])
    assert (job["status"], runs(job), job["lease"]["crashes"]) == ("finished", "run\n", 0)
    until(lambda: system(engine)["ok"], "execd status shows that it is over")
    (directories[0] / "go").touch()
    (job,) = engine.wait([running])
    assert job["status"] == "finished"
    assert "unknown" not in statuses(job)
    assert len(lines(engine, "pbs does not answer:")) == 1
    assert len(lines(engine, "pbs answers again")) == 1


def test_a_kill_during_an_outage_is_not_lost(engine: Engine, torque: StandIn) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "1000"]})
    engine.until_status(job_id, "running")
    torque.mark("down")
    engine.execd("kill", str(job_id), check=False)
    until(lambda: not system(engine)["ok"], "execd status shows the outage")
    assert engine.job(job_id)["status"] == "running"
    torque.unmark("down")
    assert engine.wait([job_id])[0]["status"] == "killed"


@pytest.mark.parametrize("text", ["", "mute"])
def test_a_kill_while_the_node_is_away_is_sent_again_until_it_is_done(engine: Engine, torque: StandIn, text: str) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "1000"]})
    engine.until_status(job_id, "running")
    torque.mark("no_mom", text)
    engine.execd("kill", str(job_id), check=False)
    until(lambda: torque.asked("qdel") > 2, "it is sent again")
    job = engine.job(job_id)
    assert (job["status"], job.get("refused")) == ("running", None)
    torque.unmark("no_mom")
    assert engine.wait([job_id])[0]["status"] == "killed"


@pytest.mark.parametrize(
    ("state", "words"), [("closed", "Queue is not enabled"), ("full", "Maximum number of jobs already in queue")]
)
def test_a_server_that_takes_no_jobs_is_left_alone_and_says_so(
    torque: StandIn, make_engine: MakeEngine, state: str, words: str
) -> None:
    engine = make_engine(**torque.settings())
    engine.start()
    (running,) = engine.submit({"command": UNTIL_TOLD})
    directory = Path(engine.until_status(running, "running")["dir"])
    torque.mark(state)
    ids = engine.submit(*({"command": "echo run >>runs"} for _ in range(30)))
    until(lambda: (system(engine).get("rests") or {}).get("state") == state, "execd status shows it")
    until(lambda: system(engine)["rests"]["tries"] > 3, "it is tried again")
    assert words in engine.execd("status").stdout
    assert system(engine)["ok"]
    assert words in engine.execd("explain", str(ids[0])).stdout
    histories = {len(engine.job(job_id)["history"]) for job_id in ids}
    assert max(histories) <= 4
    assert len(lines(engine, words)) == 1
    (directory / "go").touch()
    assert engine.wait([running])[0]["status"] == "finished"
    torque.unmark(state)
    assert {(job["status"], runs(job)) for job in engine.wait(ids)} == {("finished", "run\n")}
    until(lambda: not system(engine)["rests"], "execd status shows that it is over")
    assert len(lines(engine, "takes all jobs again")) == 1


def test_answers_to_submissions_that_get_lost_cost_no_job_and_start_none_twice(engine: Engine, torque: StandIn) -> None:
    torque.mark("mute")
    ids = engine.submit(*({"command": "echo run >>runs"} for _ in range(5)))
    until(lambda: lines(engine, "gave no id for a submission"), "an answer was lost")
    torque.unmark("mute")
    jobs = engine.wait(ids)
    assert {(job["status"], runs(job)) for job in jobs} == {("finished", "run\n")}
    assert any("found in the system under its name" in entry["why"] for job in jobs for entry in job["history"])
    assert {len(torque.ids(job["execution"]["name"])) for job in jobs} == {1}


@pytest.mark.parametrize("how", ["late", "lost", "lie"])
def test_a_library_that_is_out_of_step_mixes_up_no_jobs_and_loses_none(engine: Engine, torque: StandIn, how: str) -> None:
    torque.mark(how)
    ids = engine.submit(*({"command": "echo run >>runs"} for _ in range(8)))
    jobs = engine.wait(ids)
    assert {(job["status"], runs(job), job["lease"]["crashes"]) for job in jobs} == {("finished", "run\n", 0)}
    for job in jobs:
        assert torque.ids(job["execution"]["name"]) == [job["execution"]["job_no"]]
        assert not any("died" in entry["why"] for entry in job["history"])
    assert len(lines(engine, "pbs does not answer: pbs gave")) == 1
    assert not lines(engine, "Traceback")
    assert not lines(engine, "ERROR")


@pytest.mark.parametrize(("length", "words"), [("200", "no whole list"), ("0", "left out")])
def test_a_listing_that_is_cut_short_or_empty_declares_no_job_dead(
    engine: Engine, torque: StandIn, length: str, words: str
) -> None:
    (job_id,) = engine.submit({"command": UNTIL_TOLD})
    directory = Path(engine.until_status(job_id, "running")["dir"])
    torque.mark("cut", length)
    until(lambda: not system(engine)["ok"], "execd status shows the outage")
    assert words in str(engine.state()["outages"])
    torque.unmark("cut")
    until(lambda: system(engine)["ok"], "execd status shows that it is over")
    (directory / "go").touch()
    (job,) = engine.wait([job_id])
    assert job["status"] == "finished"
    assert "unknown" not in statuses(job)


def test_all_jobs_are_asked_about_in_one_question(engine: Engine, torque: StandIn) -> None:
    ids = engine.submit(*({"command": UNTIL_TOLD} for _ in range(30)))
    for job_id in ids:
        engine.until_status(job_id, "running")
    jobs = [engine.job(job_id) for job_id in ids]
    before = len(torque.calls())
    until(lambda: len(torque.calls()) >= before + 3, "it is asked again")
    assert set(torque.calls()[before:]) <= {"-f -x", "-B"}
    for job in jobs:
        (Path(job["dir"]) / "go").touch()
    assert {job["status"] for job in engine.wait(ids)} == {"finished"}
