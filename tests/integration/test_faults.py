"""What goes wrong beside the engine or in an administrator's code costs a batch at most, and never the daemon."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.store import open_store
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, ends, leave_exit_record, until

PLUGIN = '''
import os
import signal
import time

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


@execution_systems.register
class Odd(execution_systems.ExecutionSystem):
    """Runs nothing; misbehaves as the job's name says."""

    def run(self, job):
        self._misbehave(job, "run")
        return f"odd-{job.text_id}"

    def get_status(self, job):
        self._misbehave(job, "status")
        return Status.RUNNING

    def kill(self, job):
        self._misbehave(job, "kill")

    def _misbehave(self, job, where):
        if job.name == f"{where} crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if job.name == f"{where} hangs":
            time.sleep(1000)
        if job.name == f"{where} raises":
            raise ValueError("a bug of the plug-in")
        if job.name == f"{where} refuses":
            raise ExecutionSystemError("no such queue")
        if job.name == f"{where} is down" and not os.path.exists(job.env["BACK"]):
            raise ExecutionSystemError("the scheduler is away", transient=True)
'''

ROUTES = [
    {"name": "odd", "rules": [{"tag": {"names": ["odd"]}}], "execution_system": "odd"},
    {"name": "default", "execution_system": "here"},
]
SYSTEMS = {"here": {"class": "Local", "slots": 2}, "odd": {"class": "Odd"}}


@pytest.fixture
def odd(make_engine: MakeEngine) -> Engine:
    """A running engine with an execution system that misbehaves on demand, beside a good one."""
    engine = make_engine(execution_systems=SYSTEMS, routes=ROUTES, engine={"actor_deadline": "2s", "crashes": 3})
    (engine.directory / "execution_systems" / "odd.py").write_text(PLUGIN)
    engine.start()
    return engine


@pytest.mark.parametrize("how", ["crashes", "hangs"])
def test_a_job_that_ends_its_submit_actor_again_and_again_ends_in_error_and_the_others_go_on(odd: Engine, how: str) -> None:
    bad, *good = odd.submit(
        {"command": ["true"], "name": f"run {how}", "tags": ["odd"]},
        *({"command": ["true"], "tags": ["odd"]} for _ in range(5)),
        *({"command": ["true"]} for _ in range(5)),
    )
    for job_id in good[:5]:
        odd.until_status(job_id, "running")
    odd.wait(good[5:])
    (job,) = odd.wait([bad])
    assert (job["status"], job["exit"]["reason"]) == ("error", "actor crashed")
    assert ("SIGSEGV" if how == "crashes" else "no progress") in job["error"]["message"]
    assert odd.run({"command": ["true"]})[0]["status"] == "finished"


def test_a_job_that_crashes_its_status_actor_is_set_aside_and_ends_by_its_record(odd: Engine) -> None:
    """It is on its system: whatever the engine's processes die of, it may do well there."""
    good, bad = odd.submit(
        {"command": ["true"], "tags": ["odd"]}, {"command": ["true"], "tags": ["odd"], "name": "status crashes"}
    )
    until(lambda: f"{bad} (status crashes) is set aside" in odd.log(), "the job is set aside", timeout=60)
    odd.until_status(good, "running")
    job = odd.job(bad)
    assert job["status"] == "submitted"
    assert "SIGSEGV" in job["lease"]["crash"]
    later = odd.submit({"command": ["true"], "tags": ["odd"]})[0]
    odd.until_status(later, "running")
    odd.execd("kill", "--yes", str(bad))
    assert until(lambda: odd.job(bad).get("requested"), "the kill is not dropped")["sent"]
    leave_exit_record(Path(job["dir"]))
    assert odd.wait([bad])[0]["exit"]["code"] == 0


def test_a_job_whose_status_cannot_be_asked_costs_the_others_on_its_system_nothing(odd: Engine) -> None:
    (bad,) = odd.submit({"command": ["true"], "tags": ["odd"], "name": "status raises"})
    odd.until_status(bad, "submitted")
    good = odd.submit(*({"command": ["true"], "tags": ["odd"]} for _ in range(5)))
    for job_id in good:
        odd.until_status(job_id, "running")
    assert not odd.state()["outages"]
    assert odd.job(bad)["status"] == "submitted"
    until(lambda: f"job {bad}: ValueError('a bug of the plug-in')" in odd.log(), "the log names the job")
    leave_exit_record(Path(odd.job(bad)["dir"]))
    assert ends(odd.wait([bad])) == [("finished", 0, None)]


def test_a_document_that_says_it_runs_without_a_directory_costs_the_others_nothing(engine: Engine) -> None:
    lane = next(iter(engine.state()["systems"].values()))["lane"]
    execution = {"system": "here", "lane": lane, "name": "odd", "job_no": "1.1"}
    with engine.client() as client:
        client.store.insert([{"status": "running", "command": ["true"], "execution": execution}])
    assert ends(engine.run(*({"command": ["true"]} for _ in range(10)))) == [("finished", 0, None)] * 10
    assert not engine.state()["outages"]


def test_a_plug_in_that_raises_at_a_submission_does_not_lose_the_job(odd: Engine) -> None:
    (job,) = odd.run({"command": ["true"], "tags": ["odd"], "name": "run raises"})
    assert (job["status"], job["exit"]["reason"]) == ("error", "actor crashed")
    assert "a bug of the plug-in" in job["error"]["message"]
    assert "ValueError" in odd.log(), "the log has the traceback"


def test_a_submission_that_is_refused_ends_the_job_with_the_systems_words(odd: Engine) -> None:
    (job,) = odd.run({"command": ["true"], "tags": ["odd"], "name": "run refuses"})
    assert (job["status"], job["exit"]["reason"]) == ("error", "submission refused")
    assert job["error"]["message"] == "no such queue"


def test_jobs_wait_while_their_system_is_down_and_go_on_when_it_is_back(odd: Engine) -> None:
    back = odd.directory / "back"
    (job_id,) = odd.submit({"command": ["true"], "tags": ["odd"], "name": "run is down", "env": {"BACK": str(back)}})
    until(lambda: "the scheduler is away" in odd.log(), "the log says so")
    outages = until(lambda: odd.state()["outages"], "the status says so")
    assert outages[0]["what"] == "system odd"
    assert odd.run({"command": ["true"]})[0]["status"] == "finished"
    back.touch()
    odd.until_status(job_id, "running")
    until(lambda: not odd.state()["outages"], "the outage is over")


def test_a_rule_that_raises_is_a_no_and_explain_shows_it(make_engine: MakeEngine) -> None:
    engine = make_engine(
        routes=[{"name": "bad", "rules": ["breaks"], "execution_system": "here"}, {"name": "default", "execution_system": "here"}]
    )
    (engine.directory / "routing_rules" / "breaks.py").write_text(
        "from execution_engine.job_routing import rules\n\n@rules.register\ndef breaks(job):\n    return 1 / 0\n"
    )
    engine.start()
    (job,) = engine.run({"command": ["true"]})
    assert job["execution"]["route"] == "default"
    assert "ZeroDivisionError" in engine.execd("explain", str(job["_id"])).stdout


def test_a_full_disk_holds_jobs_back_until_there_is_room(make_engine: MakeEngine, small_disk: Path) -> None:
    engine = make_engine(jobs_dir=str(small_disk), engine={"retry_delay": {"min": "0.2s", "max": "1s"}})
    engine.start()
    filling = small_disk / "filling"
    filling.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    (job_id,) = engine.submit({"command": ["true"], "inputs": {"data": "x" * 100_000}})
    until(lambda: "No space left" in engine.log(), "the log says so")
    assert engine.job(job_id)["status"] in ("to be built", "building")
    filling.unlink()
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_an_invalid_job_ends_in_error_with_each_bad_field(engine: Engine) -> None:
    bad = {"status": "to be built", "command": 5, "resources": {"memory": "lots"}, "tags": "x"}
    with open_store(engine.config.database, SystemClock()) as store:
        invalid, empty, unknown = store.insert([bad, {"status": "to be built"}, {"status": "to be biult", "command": ["true"]}])
    invalid_job, empty_job = engine.wait([invalid, empty])
    assert (invalid_job["status"], invalid_job["exit"]["reason"]) == ("error", "invalid job")
    for field in ("command", "resources.memory", "tags"):
        assert field in invalid_job["error"]["message"]
    assert "command: missing" in empty_job["error"]["message"]
    assert engine.job(unknown)["status"] == "to be biult", "left alone"
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_jobs_of_a_system_that_was_taken_out_of_the_configuration_wait_and_everybody_says_why(make_engine: MakeEngine) -> None:
    systems = {"here": {"class": "Local", "slots": 1}, "spare": {"class": "Local", "slots": 1}}
    routes = [{"name": "spare", "rules": [{"tag": {"names": ["spare"]}}], "execution_system": "spare"}]
    default = {"name": "default", "execution_system": "here"}
    engine = make_engine(execution_systems=systems, routes=[*routes, default])
    engine.start()
    first, waiting = engine.submit(*({"command": ["sleep", "300"], "tags": ["spare"]} for _ in range(2)))
    engine.until_status(first, "running")
    engine.until_status(waiting, "to be submitted")
    assert engine.state()["systems"]["spare"]["waiting"] == 1
    engine.change(execution_systems={"here": systems["here"]}, routes=[default])
    engine.execd("reload")
    assert "2 jobs belong to spare@" in engine.log()
    assert sum(engine.state()["unserved"].popitem()[1].values()) == 2
    assert "reload" in engine.execd("explain", str(waiting)).stdout
    engine.change(execution_systems=systems, routes=[*routes, default])
    engine.execd("reload")
    engine.execd("kill", str(first), str(waiting))
    assert {job["status"] for job in engine.wait([first, waiting])} == {"killed"}


def test_jobs_that_wait_in_a_lane_that_nobody_serves_can_be_killed_held_and_routed_anew(make_engine: MakeEngine) -> None:
    systems = {"here": {"class": "Local", "slots": 1}, "spare": {"class": "Local", "slots": 1}}
    engine = make_engine(execution_systems=systems, routes=[{"name": "default", "execution_system": "spare"}])
    engine.start()
    running, unwanted, waiting = engine.submit({"command": ["sleep", "300"]}, {"command": ["true"]}, {"command": ["true"]})
    engine.until_status(running, "running")
    for each in (unwanted, waiting):
        engine.until_status(each, "to be submitted")
    engine.change(execution_systems={"here": systems["here"]}, routes=[{"name": "default", "execution_system": "here"}])
    engine.execd("reload")
    assert "`execd hold` and `execd release` route it anew" in engine.execd("explain", str(waiting)).stdout
    engine.execd("kill", "--yes", str(unwanted))
    engine.execd("hold", str(waiting))
    engine.until_status(waiting, "hold")
    engine.execd("release", str(waiting))
    assert ends(engine.wait([unwanted, waiting])) == [("killed", None, "killed"), ("finished", 0, None)]
    assert engine.job(running)["status"] == "running"


def test_a_command_that_ended_well_on_a_full_disk_has_no_exit_record_and_no_made_up_exit_code(
    make_engine: MakeEngine, small_disk: Path
) -> None:
    engine = make_engine(jobs_dir=str(small_disk))
    engine.start()
    (job,) = engine.run({"command": "head -c 10000000 /dev/zero > big; exit 0"})
    assert (job["status"], job["exit"]) == ("error", {"code": None, "signal": None, "reason": "no exit record"})
    assert "ended with" in job["error"]["details"]


def test_a_job_that_does_away_with_its_directory_ends_as_its_command_did(engine: Engine) -> None:
    removed = "rm -rf $EXECD_JOB_DIR"
    replaced = "mv $EXECD_JOB_DIR $EXECD_JOB_DIR.moved; mkdir -p $EXECD_JOB_DIR/.execd"
    commands = [f"{away}; exit {code}" for away in (removed, replaced, "chmod -R a-w .") for code in (0, 7)]
    jobs = engine.run(*({"command": command} for command in commands), timeout=20)
    assert [(job["status"], job["exit"]["code"]) for job in jobs] == [("finished", 0), ("error", 7)] * 3


def test_a_job_without_a_record_did_start_and_holds_its_slot_no_longer_than_it_runs(engine: Engine) -> None:
    nowhere = "ln -s /dev/null $EXECD_JOB_DIR/../.${EXECD_JOB_DIR##*/}.1.exit; rm -rf $EXECD_JOB_DIR"
    jobs = engine.run(*({"command": nowhere} for _ in range(4)), timeout=20)
    assert {(job["status"], job["exit"]["reason"]) for job in jobs} == {("error", "no exit record")}


def test_an_engine_whose_database_is_taken_away_waits_for_it_and_takes_no_other(make_engine: MakeEngine) -> None:
    engine = make_engine(engine={"retry_delay": {"min": "0.1s", "max": "0.3s"}})
    engine.start()
    (first,) = engine.run({"command": ["true"]})
    database = Path(engine.config.database.url.removeprefix("sqlite:///"))
    away = engine.directory / "away"
    away.mkdir()
    taken = [file.rename(away / file.name) for file in database.parent.glob(f"{database.name}*")]
    until(lambda: "is gone" in str(engine.state()["outages"]), "the engine says so")
    for command in (("jobs",), ("show", "x"), ("submit", "--", "true")):
        result = engine.execd(*command, check=False)
        assert (result.returncode, "there is no database" in result.stderr) == (1, True), result
    assert not database.exists()
    with open_store(Database(url=f"sqlite:///{database}"), SystemClock()) as other:
        other.boot(create=True)
        (foreign,) = other.insert([{"status": "to be built", "command": ["true"]}])
        until(lambda: "another file" in str(engine.state()["outages"]), "the engine tells the difference")
        os.kill(engine.state()["monitor"]["pid"], signal.SIGKILL)
        until(lambda: engine.state()["monitor"]["restarts"] == 1, "a new monitor works")
        until(lambda: "another file" in str(engine.state()["outages"]), "it waits for the same database")
        assert other.statuses([foreign]) == {foreign: "to be built"}
    database.unlink()
    for file in taken:
        file.rename(database.parent / file.name)
    assert engine.job(first["_id"])["status"] == "finished"
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"
