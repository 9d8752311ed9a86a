"""Real jobs through a real engine and a stand-in of Torque that behaves as was measured with a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.status import Status
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, ends, statuses, until
from tests.support.job_sites import JobSite, submitted
from tests.support.torque_server import torque_site
from tests.support.torque_stand_in import StandIn


@pytest.fixture
def engine(torque_engine: Engine) -> Engine:
    """One engine for the whole module."""
    return torque_engine


LATER = "-a 203001010000"
"""A job with it waits in the queue for its time."""


def test_jobs_go_through_the_server_and_end_as_their_commands_did(engine: Engine, shared_torque: StandIn) -> None:
    jobs = engine.run(
        {"command": "cat words; echo note >&2; echo x > result", "inputs": {"words": "ä b\n"}, "outputs": ["result"]},
        *({"command": command} for command in (["false"], "exit 99", "kill -9 $$", ["no-such-command"], "rm -rf $EXECD_JOB_DIR")),
    )
    assert ends(jobs) == [
        ("finished", 0, None),
        ("error", 1, "exit code"),
        ("error", 99, "exit code"),
        ("error", 137, "signal"),
        ("error", 127, "command not found"),
        ("finished", 0, None),
    ]
    first, directory = jobs[0], Path(jobs[0]["dir"])
    assert (directory / "stdout").read_text() == "ä b\n"
    assert (directory / "stderr").read_text() == "note\n"
    assert first["results"] == [{"path": "result", "size": 2}]
    assert shared_torque.ids(first["execution"]["name"]) == [first["execution"]["job_no"]]
    assert "unknown" not in statuses(first)


def test_a_job_that_only_the_server_calls_a_success_is_none(engine: Engine) -> None:
    nowhere = "ln -s /dev/null $EXECD_JOB_DIR/../.${EXECD_JOB_DIR##*/}.1.exit; rm -rf .execd; exit 0"
    (job,) = engine.run({"command": nowhere})
    assert (job["status"], job["exit"]["reason"]) == ("error", "no exit record")


def test_a_job_that_exceeds_its_walltime_says_so_whether_it_was_recorded_or_not(engine: Engine) -> None:
    recorded, unrecorded, by_native = engine.run(
        {"command": ["sleep", "60"], "resources": {"walltime": "1s"}},
        {"command": "trap '' TERM; while :; do sleep 0.1; done", "resources": {"walltime": "1s"}},
        {"command": ["sleep", "60"], "resources": {"walltime": "1h", "native": "-l walltime=1"}},
    )
    assert ends([recorded, unrecorded, by_native]) == [
        ("error", 143, "walltime"),
        ("error", None, "walltime"),
        ("error", 143, "walltime"),
    ]
    assert "exit_status -11" in unrecorded["error"]["details"]


def test_a_job_that_exceeds_its_processor_time_says_so(engine: Engine) -> None:
    loop = "while :; do :; done"
    recorded, unrecorded = engine.run(
        {"command": loop, "resources": {"native": "-l cput=1"}},
        {"command": f"trap '' TERM; {loop}", "resources": {"native": "-l cput=1"}},
    )
    assert ends([recorded, unrecorded]) == [("error", 143, "cpu time"), ("error", None, "cpu time")]
    assert "exit_status -12" in unrecorded["error"]["details"]


@pytest.mark.parametrize("gone", ["not on the node", "not executable"])
def test_a_script_that_the_node_cannot_run_never_started(engine: Engine, shared_torque: StandIn, gone: str) -> None:
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": LATER}})
    job = engine.until_status(job_id, "pending")
    script = Path(job["dir"]) / ".execd" / "job_script"
    if gone == "not executable":
        script.chmod(0o600)
    else:
        script.rename(script.with_name("elsewhere"))
    shared_torque.make_eligible(job["execution"]["job_no"])
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "never started")
    assert "the node" in job["error"]["details"]
    assert "job script" in job["error"]["details"]


def test_a_job_that_is_deleted_after_it_was_given_to_its_node_was_killed_by_the_system(
    engine: Engine, shared_torque: StandIn
) -> None:
    shared_torque.mark("slow_start")
    try:
        (job_id,) = engine.submit({"command": ["true"]})
        job = engine.until_status(job_id, "running")
        shared_torque.run("qdel", job["execution"]["job_no"])
        (job,) = engine.wait([job_id])
    finally:
        shared_torque.unmark("slow_start")
    assert (job["status"], job["exit"]["reason"]) == ("error", "killed by the system")
    assert "exit_status 271" in job["error"]["details"]


def test_a_job_that_an_administrator_reruns_says_so_and_its_command_ran_once(engine: Engine, shared_torque: StandIn) -> None:
    (job_id,) = engine.submit({"command": "echo run >>runs; sleep 1000", "resources": {"native": "-r y"}})
    job = engine.until_status(job_id, "running")
    until(lambda: (Path(job["dir"]) / "runs").exists(), "the command has begun")
    assert shared_torque.run("qrerun", job["execution"]["job_no"]).returncode == 0
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "rerun")
    assert "qrerun" in job["error"]["details"]
    assert (Path(job["dir"]) / "runs").read_text() == "run\n"


def test_a_job_that_its_node_gave_up_when_its_mom_started_anew_is_lost(engine: Engine, shared_torque: StandIn) -> None:
    (job_id,) = engine.submit({"command": "echo run >>runs; sleep 1000"})
    job = engine.until_status(job_id, "running")
    until(lambda: (Path(job["dir"]) / "runs").exists(), "the command has begun")
    shared_torque.restart_mom()
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "node lost")
    assert "exit_status -4" in job["error"]["details"]


def test_a_running_job_is_killed_with_all_that_it_started_whatever_it_traps(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "trap '' TERM; (trap '' TERM; echo $$ >pid; sleep 1000) & wait; sleep 1000"})
    job = engine.until_status(job_id, "running")
    until(lambda: (Path(job["dir"]) / "pid").exists(), "the command has begun")
    engine.execd("kill", str(job_id))
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("killed", "killed")
    pid = int((Path(job["dir"]) / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists(), "its processes are gone")


def test_a_job_that_waits_in_the_queue_is_killed_without_ever_running(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "touch ran", "resources": {"native": LATER}})
    engine.until_status(job_id, "pending")
    engine.execd("kill", str(job_id))
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("killed", "killed")
    assert not (Path(job["dir"]) / "ran").exists()


def test_a_job_that_somebody_else_deletes_is_told_truly(engine: Engine, shared_torque: StandIn) -> None:
    running, waiting = engine.submit(
        {"command": "trap '' TERM; while :; do sleep 0.1; done"}, {"command": ["true"], "resources": {"native": LATER}}
    )
    for job_id, status in ((running, "running"), (waiting, "pending")):
        shared_torque.run("qdel", engine.until_status(job_id, status)["execution"]["job_no"])
    jobs = engine.wait([running, waiting])
    assert ends(jobs) == [("error", 143, "signal"), ("error", None, "never started")]
    assert "exit_status 271" in jobs[0]["error"]["details"]


def test_a_job_that_the_server_forgets_is_neither_a_success_nor_waited_for_for_ever(
    engine: Engine, shared_torque: StandIn
) -> None:
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": LATER}})
    job = engine.until_status(job_id, "pending")
    shared_torque.purge(job["execution"]["job_no"])
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "never started")
    assert "unknown" in statuses(job)


def test_hold_keeps_a_queued_job_from_starting_until_release(engine: Engine, shared_torque: StandIn) -> None:
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": LATER}})
    engine.until_status(job_id, "pending")
    engine.execd("hold", str(job_id))
    job = engine.until_status(job_id, "hold")
    shared_torque.make_eligible(job["execution"]["job_no"])
    asked = len(shared_torque.calls())
    until(lambda: len(shared_torque.calls()) > asked + 2, "time has passed")
    assert engine.job(job_id)["status"] == "hold"
    assert not (Path(job["dir"]) / ".execd" / "started").exists()
    engine.execd("release", str(job_id))
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_a_suspension_is_refused_to_all_but_operators_and_the_job_goes_on(engine: Engine, shared_torque: StandIn) -> None:
    shared_torque.needs_plain_account()
    (job_id,) = engine.submit({"command": "while [ ! -e stop ]; do sleep 0.1; done"})
    job = engine.until_status(job_id, "running")
    engine.execd("suspend", str(job_id), check=False)
    refused = until(lambda: engine.job(job_id).get("refused"), "the refusal")
    assert "only its operators suspend" in refused["why"]
    (Path(job["dir"]) / "stop").touch()
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_an_operator_suspends_a_job_and_resumes_one_that_an_administrator_suspended(
    engine: Engine, shared_torque: StandIn
) -> None:
    shared_torque.mark("operator")
    try:
        ours, theirs, killed = engine.submit(*({"command": "while [ ! -e stop ]; do sleep 0.1; done"} for _ in range(3)))
        jobs = [engine.until_status(job_id, "running") for job_id in (ours, theirs, killed)]
        engine.execd("suspend", str(ours))
        for job in jobs[1:]:
            shared_torque.run("qsig", "-s", "suspend", job["execution"]["job_no"])
        for job_id in (ours, theirs, killed):
            engine.until_status(job_id, "suspended")
        engine.execd("kill", str(killed))
        assert engine.wait([killed])[0]["status"] == "killed"
        for job_id, job in zip((ours, theirs), jobs, strict=False):
            engine.execd("resume", str(job_id))
            engine.until_status(job_id, "running")
            (Path(job["dir"]) / "stop").touch()
        assert {job["status"] for job in engine.wait([ours, theirs])} == {"finished"}
    finally:
        shared_torque.unmark("operator")


@pytest.mark.parametrize(
    ("native", "words"),
    [
        ("-q nosuch", "Unknown queue"),
        ("-l nosuch=1", "nosuch"),
        ("-l nodes=1:ppn=64", "cannot locate feasible nodes"),
        ("-V", "-V"),
        ("-W umask=022", "umask"),
    ],
)
def test_a_specification_that_the_server_refuses_ends_the_job_with_its_words(engine: Engine, native: str, words: str) -> None:
    refused, good = engine.run({"command": ["true"], "resources": {"native": native}}, {"command": ["true"]})
    assert (refused["status"], refused["exit"]["reason"]) == ("error", "submission refused")
    assert words in refused["error"]["message"]
    assert good["status"] == "finished"


def test_a_job_cannot_hide_under_another_name(engine: Engine) -> None:
    (job,) = engine.run({"command": "echo run >>runs; sleep 0.5", "resources": {"native": "-N mine"}})
    assert job["status"] == "finished"
    assert "unknown" not in statuses(job)


def test_a_limit_on_the_number_of_jobs_lets_the_others_wait(engine: Engine, shared_torque: StandIn) -> None:
    shared_torque.mark("full")
    (job_id,) = engine.submit({"command": ["true"]})
    until(lambda: (engine.state()["systems"]["pbs"]["rests"] or {}).get("state") == "full", "it was refused")
    shared_torque.unmark("full")
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_a_torque_server_and_this_machine_work_side_by_side(torque: StandIn, make_engine: MakeEngine) -> None:
    settings = torque.settings()
    settings["execution_systems"]["here"] = {"class": "Local", "slots": 2}
    settings["routes"].insert(0, {"name": "small", "rules": [{"name": {"names": ["small"]}}], "execution_system": "here"})
    engine = make_engine(**settings)
    engine.start()
    jobs = engine.run(*({"command": f"exit {number}", "name": "small" if number % 2 else "large"} for number in range(6)))
    assert [job["exit"]["code"] for job in jobs] == list(range(6))
    assert [job["execution"]["system"] for job in jobs] == ["pbs", "here"] * 3
    torque.mark("down")
    (job,) = engine.run({"command": ["true"], "name": "small"})
    assert job["status"] == "finished"


def test_check_and_status_tell_whether_the_server_answers(
    engine: Engine, shared_torque: StandIn, make_engine: MakeEngine
) -> None:
    assert "Torque" in engine.execd("check").stdout
    assert engine.state()["systems"]["pbs"]["ok"]
    for key, value, words in (("server_name", "other", "other"), ("drmaa_library", "/nowhere.so", "/nowhere.so")):
        done = make_engine(key, **shared_torque.settings(**{key: value})).execd("check", check=False)
        assert done.returncode == 1
        assert words in done.stdout + done.stderr


# --- the system alone


@pytest.fixture
def site(torque: StandIn, tmp_path: Path) -> Any:
    yield from torque_site(torque.options, tmp_path)


def test_a_job_that_is_there_twice_is_found_followed_and_killed_as_one(site: JobSite, torque: StandIn) -> None:
    job = site.job("echo run >>runs; sleep 1000")
    first, second = (site.another_actor().run(job) for _ in range(2))
    assert first != second
    known = submitted(job, second)
    site.wait_file(known, "runs")
    site.wait(known, Status.RUNNING)
    assert site.system.find(job) in (first, second)
    site.system.kill(known)
    site.wait_gone(known)
    assert site.file(job, "runs").read_text() == "run\n"
    assert not site.processes_of(job)


def test_a_session_is_not_opened_while_the_server_is_away_because_the_library_would_crash(site: JobSite, torque: StandIn) -> None:
    torque.mark("down")
    with pytest.raises(ExecutionSystemError, match="cannot connect"):
        site.another_actor()
    torque.unmark("down")
    assert site.another_actor().probe().ok


def test_an_answer_that_gets_lost_is_no_refusal_and_the_job_is_found(site: JobSite, torque: StandIn) -> None:
    job = site.job(["true"])
    torque.mark("mute")
    with pytest.raises(ConnectionError, match="no id"):
        site.system.run(job)
    assert torque.ids(str(job.execution.name)) == [site.system.find(job)]


def test_a_job_that_another_account_planted_under_the_name_is_neither_adopted_nor_killed(site: JobSite, torque: StandIn) -> None:
    job = site.job(["true"])
    planted = torque.plant(str(job.execution.name))
    assert site.system.find(job) is None
    site.system.kill(submitted(job, planted))
    assert torque.is_there(planted)
    site.wait_gone(site.run(job))
    record = site.record(job)
    assert record is not None
    assert record.code == 0
