"""Jobs that ended are tried again on request, as new attempts.  Each command notes every run in a file of its job's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution_engine.jobs.status import FINAL
from tests.support.engine_fixtures import TWO_SLOTS, MakeEngine
from tests.support.engines import Engine, statuses, until
from tests.support.servers import silent_server, web_server

FAILS_FIRST = "[ $EXECD_ATTEMPT -gt 1 ] || exit 3"


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """One engine for the whole module, with free slots for each test."""
    yield shared_engine
    with shared_engine.client() as client:
        client.request([job["_id"] for job in client.find() if job["status"] not in FINAL], "kill")
        until(lambda: {job["status"] for job in client.find()} <= FINAL, "the jobs of the test have ended")


def noting(directory: Path, command: str) -> dict[str, Any]:
    """A job with this command that notes the number of each attempt that runs."""
    (directory / "runs").mkdir(exist_ok=True)
    return {"command": f'echo "$EXECD_ATTEMPT" | tee -a "{directory}/runs/$EXECD_JOB_ID"\n{command}', "outputs": ["stdout"]}


def runs(directory: Path, job: dict[str, Any]) -> list[int]:
    """The attempts of a job that ran, in order."""
    return [int(line) for line in (directory / "runs" / str(job["_id"])).read_text().split()]


def attempts(job: dict[str, Any]) -> list[tuple[int, str]]:
    """Number and final status of the attempts before the last."""
    return [(before["attempt"], before["status"]) for before in job["attempts"]]


def test_a_job_that_failed_is_tried_again_and_nothing_of_the_first_attempt_is_lost(engine: Engine, tmp_path: Path) -> None:
    (failed,) = engine.run(noting(tmp_path, FAILS_FIRST))
    assert engine.execd("retry", str(failed["_id"])).stdout == f"{failed['_id']}: retry requested\n"
    (job,) = engine.wait([failed["_id"]])
    assert (job["status"], job["attempt"], job["exit"]["code"], job["error"]) == ("finished", 2, 0, None)
    assert attempts(job) == [(1, "error")]
    for name in ("exit", "error", "usage", "results", "execution"):
        assert job["attempts"][0][name] == failed[name], name
    assert job["attempts"][0]["times"].items() >= failed["times"].items()
    assert job["times"]["created"] == failed["times"]["created"]
    assert job["execution"]["name"] != failed["execution"]["name"]
    assert runs(tmp_path, job) == [1, 2]
    assert [engine.execd("logs", str(job["_id"]), *more).stdout for more in ((), ("--attempt", "1"))] == ["2\n", "1\n"]
    assert statuses(job).count("to be built") == 1
    assert "exit code 3" in engine.execd("show", str(job["_id"])).stdout


def test_a_job_is_killed_in_its_second_attempt_and_tried_a_third_time(engine: Engine, tmp_path: Path) -> None:
    (failed,) = engine.run(noting(tmp_path, "[ $EXECD_ATTEMPT != 1 ] || exit 3; [ $EXECD_ATTEMPT != 2 ] || sleep 300"))
    engine.execd("retry", str(failed["_id"]))
    engine.until_status(failed["_id"], "running")
    engine.execd("kill", str(failed["_id"]))
    (killed,) = engine.wait([failed["_id"]])
    assert (killed["status"], killed["exit"]["reason"], killed["attempt"]) == ("killed", "killed", 2)
    engine.execd("retry", "--status", "killed", "--yes")
    (job,) = engine.wait([failed["_id"]])
    assert (job["status"], attempts(job)) == ("finished", [(1, "error"), (2, "killed")])
    assert job["attempts"][1]["requested"]["what"] == "kill"
    assert runs(tmp_path, job) == [1, 2, 3]


def test_of_many_apps_that_ask_for_a_retry_at_once_one_attempt_comes(engine: Engine, tmp_path: Path) -> None:
    failed = engine.run(*(noting(tmp_path, "exit 3") for _ in range(5)))
    ids = [job["_id"] for job in failed]

    def ask(_: int) -> None:
        with engine.client() as client:
            client.request(ids, "retry")

    with ThreadPoolExecutor(4) as apps:
        list(apps.map(ask, range(4)))
    for job in engine.wait(ids):
        assert runs(tmp_path, job) == list(range(1, job["attempt"] + 1))
        assert job.get("request") is None
        assert len(attempts(job)) == job["attempt"] - 1


def test_a_job_that_finished_or_has_not_ended_is_not_tried_again(engine: Engine, tmp_path: Path) -> None:
    (finished,) = engine.run(noting(tmp_path, "true"))
    (running,) = engine.submit(noting(tmp_path, "sleep 300"))
    engine.until_status(running, "running")
    with engine.client() as client:
        assert client.request([finished["_id"], running], "retry") == []
    (waiting,) = engine.submit({"command": ["true"], "request": "retry", "not_before": datetime.now(UTC) + timedelta(hours=1)})
    job = until(lambda: (document := engine.job(waiting)).get("refused") and document, "the refusal")
    assert "cannot be asked to retry" in job["refused"]["why"]
    assert (job["status"], job.get("request")) == ("to be built", None)
    assert runs(tmp_path, finished) == [1]


def test_a_job_is_tried_again_when_its_system_is_gone_from_the_configuration(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS)
    engine.start()
    (failed,) = engine.run({"command": FAILS_FIRST})
    engine.change(
        execution_systems={"there": {"class": "Local", "slots": 2}}, routes=[{"name": "new", "execution_system": "there"}]
    )
    engine.execd("reload")
    engine.execd("retry", "--system", "here", "--yes")
    (job,) = engine.wait([failed["_id"]])
    assert (job["status"], job["execution"]["system"], job["attempts"][0]["execution"]["system"]) == ("finished", "there", "here")


def test_the_owner_is_told_of_each_attempt_with_a_key_of_its_own(make_engine: MakeEngine) -> None:
    with web_server() as hooks:
        engine = make_engine(notification={"targets": {"hook": {"url": f"json://127.0.0.1:{hooks.port}/"}}, "default": ["hook"]})
        engine.start()
        (failed,) = engine.run({"command": "exit 3"})
        for number in (1, 2):
            until(lambda number=number: len(hooks.headers) == number, f"the owner was told {number} times")
            until(lambda: engine.job(failed["_id"])["times"].get("notified"), "that is stored")
            if number == 1:
                engine.execd("retry", str(failed["_id"]))
        keys = [headers["X-Execd-Key"] for headers in hooks.headers]
        assert keys == [f"{failed['_id']}-{attempt}-hook" for attempt in (1, 2)]
        assert engine.job(failed["_id"])["attempts"][0]["notified"]["hook"]["at"]


def test_a_retry_waits_while_the_owner_is_being_told(make_engine: MakeEngine) -> None:
    with silent_server() as port:
        engine = make_engine(
            notification={
                "targets": {"hook": {"url": f"json://127.0.0.1:{port}/"}},
                "default": ["hook"],
                "timeout": "1s",
                "retry_delay": {"min": "30s", "max": "60s"},
            }
        )
        engine.start()
        (failed,) = engine.run({"command": FAILS_FIRST})
        until(lambda: (engine.job(failed["_id"]).get("lease") or {}).get("owner"), "the notification has begun")
        engine.execd("retry", str(failed["_id"]))
        (job,) = engine.wait([failed["_id"]])
        assert (job["status"], job["attempt"]) == ("finished", 2)
        assert job["attempts"][0]["notified"]["hook"]["attempts"] == 1


def test_what_an_attempt_leaves_running_is_ended_without_harm_to_the_next_one(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine={"kill_delay": "1s"})
    engine.start()
    helper = "(setsid sh -c 'sleep 1.5; touch lives' &)"
    stubborn = "(setsid sh -c 'trap \"\" TERM; touch began; sleep 30; sleep 30' &)"
    wait = "until [ -e began ]; do sleep 0.02; done"
    (failed,) = engine.run(
        {"command": f"[ $EXECD_ATTEMPT = 2 ] || {{ {stubborn}; {wait}; exit 3; }}\n{helper}; sleep 2.5; [ -e lives ]"}
    )
    with engine.client() as client:
        client.request([failed["_id"]], "retry")
    (job,) = engine.wait([failed["_id"]])
    assert (job["status"], job["attempt"]) == ("finished", 2)
    until(lambda: not processes_in(Path(job["dir"])), "nothing of the first attempt is left", timeout=10)


def processes_in(directory: Path) -> list[psutil.Process]:
    """The processes of a job, whatever attempt of it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("EXECD_JOB_DIR") == str(directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_an_engine_that_is_killed_while_jobs_are_tried_again_runs_each_attempt_once(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine(execution_systems=TWO_SLOTS, engine={"lease": "3s"})
    engine.start()
    failed = engine.run(*(noting(tmp_path, FAILS_FIRST) for _ in range(30)))
    ids = [job["_id"] for job in failed]
    with engine.client() as client:
        client.request(ids, "retry")
        for goal in (1, 10, 20):
            until(lambda goal=goal: sum(client.get(job_id)["attempt"] == 2 for job_id in ids) >= goal, f"{goal} are under way")
            kill_all(engine)
            engine.start()
    for job in engine.wait(ids):
        assert (job["status"], job["attempt"], attempts(job)) == ("finished", 2, [(1, "error")])
        assert runs(tmp_path, job) == [1, 2]
        assert (Path(job["dir"]) / ".execd/attempt-1/stdout").read_text() == "1\n"


def kill_all(engine: Engine) -> None:
    """SIGKILL to every process of the engine, the master first."""
    processes = engine.processes()
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
