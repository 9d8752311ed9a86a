"""Real jobs through a real engine and a real Grid Engine cell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution_engine.jobs.status import FINAL, Status
from tests.support.engines import Engine, ends, statuses, until
from tests.support.gridengine import FOREIGN, Cell, gridengine_site
from tests.support.job_sites import JobSite, submitted

pytestmark = pytest.mark.gridengine


@pytest.fixture
def engine(gridengine_engine: Engine) -> Iterator[Engine]:
    """One engine for the whole module; no job is left in the cell after a test."""
    yield gridengine_engine
    with gridengine_engine.client() as client:
        client.request([job["_id"] for job in client.find() if job["status"] not in FINAL], "kill")
        until(lambda: {job["status"] for job in client.find()} <= FINAL, "the jobs of the test have ended")


@pytest.fixture
def site(gridengine: Cell, tmp_path: Path) -> Iterator[JobSite]:
    """The system alone, without an engine."""
    yield from gridengine_site(gridengine, tmp_path)


def at(seconds: int) -> str:
    """So many seconds from now as `qsub -a` takes it: a job with it is queued and does not start before."""
    return (datetime.now() + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M.%S")


LATER = "-a 203001010000"


def test_a_job_goes_through_the_cell_and_leaves_its_results(engine: Engine) -> None:
    (job,) = engine.run(
        {"command": "cat words; echo note >&2; echo $NSLOTS > result", "inputs": {"words": "ä b\n"}, "outputs": ["result"]}
    )
    directory = Path(job["dir"])
    assert ends([job]) == [("finished", 0, None)]
    assert (directory / "stdout").read_text() == "ä b\n"
    assert (directory / "stderr").read_text() == "note\n"
    assert job["results"] == [{"path": "result", "size": 2}]
    assert job["execution"]["job_no"].isdecimal()
    assert statuses(job)[-1] == "finished"
    assert "unknown" not in statuses(job)


def test_the_end_of_a_command_is_told_truly(engine: Engine) -> None:
    commands = [["true"], ["false"], "exit 99", "exit 100", "kill -9 $$", "kill -TERM $$", ["no-such-command"]]
    assert ends(engine.run(*({"command": command} for command in commands))) == [
        ("finished", 0, None),
        ("error", 1, "exit code"),
        ("error", 99, "exit code"),
        ("error", 100, "exit code"),
        ("error", 137, "signal"),
        ("error", 143, "signal"),
        ("error", 127, "command not found"),
    ]


def test_limits_are_enforced_by_the_cell_and_the_job_says_which(engine: Engine) -> None:
    hungry = "python3 -c 'import time; b = bytearray(150 << 20); time.sleep(60)'"
    too_long, too_large, by_native = engine.run(
        {"command": ["sleep", "60"], "resources": {"walltime": "2s"}},
        {"command": f"{hungry} & {hungry} & wait", "resources": {"memory": "200M", "walltime": "1m"}},
        {"command": ["sleep", "60"], "resources": {"walltime": "1h", "native": "-l h_rt=2"}},
    )
    assert [job["exit"]["reason"] for job in (too_long, too_large, by_native)] == ["walltime", "memory", "walltime"]
    assert {job["status"] for job in (too_long, too_large, by_native)} == {"error"}
    assert too_large["usage"]["memory"] > 200 << 20
    assert too_long["usage"]["wall"] >= 2
    assert "h_rt" in too_long["error"]["details"]


def test_a_job_of_several_cores_gets_them(engine: Engine) -> None:
    (job,) = engine.run({"command": "echo $NSLOTS $PE", "resources": {"cores": 3, "memory": "3G"}})
    assert (Path(job["dir"]) / "stdout").read_text() == "3 smp\n"


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


def test_kills_that_arrive_while_jobs_are_built_and_submitted_are_not_lost(engine: Engine) -> None:
    ids = engine.submit(*({"command": ["sleep", "300"]} for _ in range(20)))
    engine.execd("kill", *map(str, ids))
    assert {job["status"] for job in engine.wait(ids)} == {"killed"}


def test_a_job_that_somebody_else_deletes_is_told_as_ended_by_a_signal(engine: Engine, gridengine: Cell) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "300"]})
    job = engine.until_status(job_id, "running")
    gridengine.run("qdel", job["execution"]["job_no"])
    (job,) = engine.wait([job_id])
    assert ends([job]) == [("error", 137, "signal")]
    assert "failed 100" in job["error"]["details"]


def test_a_job_that_somebody_else_deletes_from_the_queue_never_started(engine: Engine, gridengine: Cell) -> None:
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": LATER}})
    job = engine.until_status(job_id, "pending")
    gridengine.run("qdel", job["execution"]["job_no"])
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "never started")
    assert "unknown" in statuses(job)


def test_hold_keeps_a_queued_job_from_starting_until_release(engine: Engine) -> None:
    start = at(seconds=3)
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": f"-a {start}"}})
    engine.until_status(job_id, "pending")
    engine.execd("hold", str(job_id))
    job = engine.until_status(job_id, "hold")
    until(lambda: at(seconds=-2) > start, "the cell would have started it long ago")
    assert not (Path(job["dir"]) / ".execd" / "started").exists()
    engine.execd("release", str(job_id))
    assert engine.wait([job_id])[0]["status"] == "finished"


def test_suspend_stops_a_running_job_and_resume_lets_it_go_on(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "while [ ! -e stop ]; do sleep 0.1; done"})
    job = engine.until_status(job_id, "running")
    engine.execd("suspend", str(job_id))
    engine.until_status(job_id, "suspended")
    engine.execd("resume", str(job_id))
    engine.until_status(job_id, "running")
    (Path(job["dir"]) / "stop").touch()
    assert engine.wait([job_id])[0]["status"] == "finished"


@pytest.mark.parametrize(
    ("native", "words"),
    [
        ("-q nosuch.q", 'requests unknown queue "nosuch.q"'),
        ("-l nosuch=1", 'unknown resource "nosuch"'),
        ("-pe nosuch 2", 'parallel environment "nosuch" does not exist'),
        ("-zzz", "-zzz"),
        ("-l arch=nosuch", "no suitable queues"),
    ],
)
def test_a_specification_that_the_cell_refuses_ends_the_job_with_its_words(engine: Engine, native: str, words: str) -> None:
    (job,) = engine.run({"command": ["true"], "resources": {"native": native}})
    assert (job["status"], job["exit"]["reason"]) == ("error", "submission refused")
    assert words in job["error"]["message"]


def test_a_refused_job_does_not_hold_up_the_others(engine: Engine) -> None:
    jobs = engine.run(*({"command": ["true"], "resources": {"native": "-q nosuch.q" if n % 2 else ""}} for n in range(10)))
    assert [job["status"] for job in jobs] == ["finished", "error"] * 5


def test_a_job_that_writes_a_lot_and_leaves_a_child_behind_ends_well(engine: Engine) -> None:
    (job,) = engine.run({"command": "sleep 20 & head -c 100000000 /dev/zero"})
    assert ends([job]) == [("finished", 0, None)]
    assert (Path(job["dir"]) / "stdout").stat().st_size == 100_000_000


def test_a_job_that_removes_its_directory_ends_as_its_command_did(engine: Engine) -> None:
    jobs = engine.run(*({"command": f"rm -rf $EXECD_JOB_DIR; exit {code}"} for code in (0, 7)))
    assert [(job["status"], job["exit"]["code"]) for job in jobs] == [("finished", 0), ("error", 7)]


def test_a_job_whose_directory_is_gone_before_it_starts_never_started(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": ["true"], "resources": {"native": f"-a {at(seconds=3)}"}})
    job = engine.until_status(job_id, "pending")
    Path(job["dir"]).rename(f"{job['dir']}.moved")
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "never started")
    assert "failed 27" in job["error"]["details"]


def test_no_option_hands_the_engines_environment_to_a_job(
    gridengine: Cell, make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECD_TEST_SECRET", "of the engine")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    engine = make_engine(**gridengine.settings())
    engine.start()
    (job,) = engine.run({"command": "env", "resources": {"native": "-V -v EXECD_TEST_SECRET"}})
    seen = (Path(job["dir"]) / "stdout").read_text()
    assert "of the engine" not in seen
    assert "TZ=Asia/Tokyo" in seen


def test_the_library_is_loaded_by_actors_of_the_system_only(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": ["sleep", "30"]})
    engine.until_status(job_id, "running")

    def with_library() -> set[str]:
        titles = set()
        for process in engine.processes():
            if any("libdrmaa" in mapped.path for mapped in process.memory_maps()):
                titles.add(process.cmdline()[0])
        return titles

    assert until(with_library, "an actor uses the library") <= {
        "execd: submit cluster",
        "execd: status cluster",
        "execd: request cluster",
    }


def test_check_and_status_tell_whether_the_cell_answers(engine: Engine, gridengine: Cell, make_engine: Any) -> None:
    assert "SGE" in engine.execd("check").stdout
    assert engine.state()["systems"]["cluster"]["ok"]
    for key, value, words in (("qmaster_port", 1, "unable to send"), ("drmaa_library", "/nowhere.so", "/nowhere.so")):
        done = make_engine(key, **gridengine.settings(**{key: value})).execd("check", check=False)
        assert done.returncode == 1
        assert words in done.stdout + done.stderr


def test_a_job_in_an_error_state_ends_with_the_cells_explanation_and_leaves_the_queue(site: JobSite, gridengine: Cell) -> None:
    job = site.job(["true"])
    name = str(job.execution.name)
    gridengine.run("qsub", "-b", "y", "-wd", "/nonexistent", "-N", name, f"{job.dir}/.execd/job_script")
    (native,) = gridengine.queued(name)
    job = submitted(job, native)
    site.wait(job, Status.ERROR)
    account = site.system.account(job, None)
    assert account is not None
    assert account.reason == "never started"
    assert "can't chdir to /nonexistent" in account.message
    assert gridengine.queued(name) == []


def test_what_was_done_already_is_no_error_when_it_is_asked_again(site: JobSite) -> None:
    job = site.start("echo x >begun; sleep 1000")
    site.wait_file(job, "begun")
    for action, status in ((site.system.suspend, Status.SUSPENDED), (site.system.resume, Status.RUNNING)):
        action(job)
        site.wait(job, status)
        action(job)
        assert site.system.get_status(job) is status


def test_a_job_that_is_in_the_cell_twice_is_found_followed_and_killed_as_one(site: JobSite, gridengine: Cell) -> None:
    job = site.job("echo run >>runs; sleep 1000")
    first, second = (site.another_actor().run(job) for _ in range(2))
    assert first != second
    known = submitted(job, second)
    site.wait_file(known, "runs")
    site.wait(known, Status.RUNNING)
    site.system.kill(known)
    site.wait_gone(known)
    assert gridengine.queued(str(job.execution.name)) == []
    assert site.file(job, "runs").read_text() == "run\n"
    assert not site.processes_of(job)


def test_a_job_whose_shepherd_and_processes_vanish_was_lost_by_its_node(engine: Engine, gridengine: Cell) -> None:
    if not gridengine.own:
        pytest.skip(FOREIGN)
    (job_id,) = engine.submit({"command": "echo $$ >pid; exec sleep 1000"})
    job = engine.until_status(job_id, "running")
    file = Path(job["dir"]) / "pid"
    until(lambda: file.exists() and file.read_text(), "the command has begun")
    family = psutil.Process(int(file.read_text())).parents()
    shepherd = next(process for process in family if process.name() == "sge_shepherd")
    for process in (shepherd, *shepherd.children(recursive=True)):
        process.kill()
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["reason"]) == ("error", "node lost")
    assert "unknown" in statuses(job)


def test_jobs_with_ids_that_no_cell_takes_as_names_run(engine: Engine) -> None:
    ids = ["1/2", "ä *\n@", "x" * 400, 7]
    jobs = engine.run(*({"_id": job_id, "command": ["true"]} for job_id in ids))
    assert {job["status"] for job in jobs} == {"finished"}
    assert len({job["execution"]["name"] for job in jobs}) == len(ids)
