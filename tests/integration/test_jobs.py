"""Real jobs through a real engine, from the insert to the end."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from execution_engine.jobs.status import TRANSITIONS, Status
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, statuses, until


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    """One engine for the whole module: only the tests that need another one make their own."""
    return shared_engine


def test_a_job_goes_from_the_insert_to_the_end(engine: Engine) -> None:
    (job,) = engine.run(
        {
            "name": "count",
            "command": ["sh", "-c", "wc -l < lines > count; echo done; echo note >&2"],
            "inputs": {"lines": "a\nb\nc\n"},
            "outputs": ["count"],
            "env": {"LANG": "C"},
        }
    )
    directory = Path(job["dir"])
    assert job["status"] == "finished"
    assert job["exit"] == {"code": 0, "signal": None, "reason": None}
    assert (directory / "count").read_text().strip() == "3"
    assert (directory / "stdout").read_text() == "done\n"
    assert (directory / "stderr").read_text() == "note\n"
    assert [result["path"] for result in job["results"]] == ["count"]
    assert job["usage"]["memory"] > 0
    assert job["usage"]["wall"] >= 0
    assert job["times"]["created"] <= job["times"]["built"] <= job["times"]["submitted"]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_history_is_a_path_through_the_transition_table(engine: Engine) -> None:
    jobs = engine.run({"command": ["true"]}, {"command": ["false"]}, {"command": ["sh", "-c", "kill -9 $$"]})
    for job in jobs:
        path = [Status.TO_BE_BUILT, *map(Status, statuses(job))]
        for old, new in pairwise(path):
            assert new in TRANSITIONS[old], f"{old} → {new}"
        assert path[-1] == job["status"]


@pytest.mark.parametrize(
    ("command", "status", "code", "signal", "reason"),
    [
        (["false"], "error", 1, None, "exit code"),
        (["sh", "-c", "exit 99"], "error", 99, None, "exit code"),
        (["sh", "-c", "exit 100"], "error", 100, None, "exit code"),
        ("kill -9 $$", "error", 137, "SIGKILL", "signal"),
        ("kill -SEGV $$", "error", 139, "SIGSEGV", "signal"),
        (["no-such-command"], "error", 127, None, "command not found"),
        (["/etc/passwd"], "error", 126, None, "command not executable"),
        ("exit 0", "finished", 0, None, None),
    ],
)
def test_the_end_of_a_command_is_told_truly(
    engine: Engine, command: Any, status: str, code: int, signal: str | None, reason: str | None
) -> None:
    (job,) = engine.run({"command": command})
    assert (job["status"], job["exit"]) == (status, {"code": code, "signal": signal, "reason": reason})


def test_a_job_that_exceeds_its_walltime_ends_with_that_reason(engine: Engine) -> None:
    (job,) = engine.run({"command": ["sleep", "60"], "resources": {"walltime": "0.5s"}})
    assert (job["status"], job["exit"]["reason"]) == ("error", "walltime")
    assert job["usage"]["wall"] < 30


def test_a_job_that_exceeds_its_memory_ends_with_that_reason(engine: Engine) -> None:
    hungry = "import time\nblock = bytearray(200_000_000)\nfor i in range(0, len(block), 4096): block[i] = 1\ntime.sleep(60)"
    (job,) = engine.run({"command": ["python3", "-c", hungry], "resources": {"memory": "50M"}})
    assert (job["status"], job["exit"]["reason"]) == ("error", "memory")


def test_a_job_without_limits_and_with_a_large_memory_reports_its_peak(engine: Engine) -> None:
    (job,) = engine.run({"command": ["python3", "-c", "block = bytearray(100_000_000); print(len(block))"]})
    assert job["usage"]["memory"] > 90_000_000


def test_jobs_wait_for_a_slot_by_priority_then_age(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems={"here": {"class": "Local", "slots": 1}})
    order = engine.directory / "order"
    documents = [
        {"command": f"echo {name} >> {order}", "priority": priority}
        for name, priority in [("first", 0), ("second", 0), ("low", -1), ("high", 5)]
    ]
    ids = engine.submit(*documents)
    engine.start()
    engine.wait(ids)
    assert order.read_text().split() == ["high", "first", "second", "low"]


def test_a_job_with_more_cores_takes_more_slots(engine: Engine) -> None:
    busy = engine.directory / "busy"
    busy.mkdir()
    script = f"mkdir {busy}/$EXECD_JOB_ID; ls {busy} | wc -l > seen; sleep 0.3; rmdir {busy}/$EXECD_JOB_ID"
    jobs = engine.run(*({"command": script, "resources": {"cores": 2}} for _ in range(3)))
    assert {(Path(job["dir"]) / "seen").read_text().strip() for job in jobs} == {"1"}


def test_a_job_that_asks_for_more_cores_than_there_are_ends_in_error(engine: Engine) -> None:
    (large, small) = engine.run({"command": ["true"], "resources": {"cores": 64}}, {"command": ["true"]})
    assert (large["status"], large["exit"]["reason"]) == ("error", "submission refused")
    assert "64" in large["error"]["message"]
    assert small["status"] == "finished"


def test_a_job_that_is_not_due_yet_waits(engine: Engine) -> None:
    from datetime import UTC, datetime, timedelta

    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    (job,) = engine.run({"command": ["true"], "not_before": soon})
    assert job["times"]["submitted"] >= soon.replace(microsecond=soon.microsecond // 1000 * 1000)


def test_a_draft_is_left_alone(engine: Engine) -> None:
    (draft,) = engine.submit({"command": ["true"], "status": "init"})
    engine.run({"command": ["true"]})
    assert engine.job(draft)["status"] == "init"


def test_a_job_that_no_route_takes_ends_in_error(make_engine: MakeEngine) -> None:
    engine = make_engine(routes=[{"name": "mine", "rules": [{"owner": {"names": ["me"]}}], "execution_system": "here"}])
    engine.start()
    (job,) = engine.run({"command": ["true"], "owner": "you"})
    assert (job["status"], job["exit"]["reason"]) == ("error", "no route")
    assert "owner" in engine.execd("explain", str(job["_id"])).stdout


def test_local_jobs_survive_the_engines_stop_and_are_found_again(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "sleep 1.5; echo here > result", "outputs": ["result"]})
    engine.until_status(job_id, "running")
    engine.stop()
    assert engine.job(job_id)["status"] == "running"
    engine.start()
    (job,) = engine.wait([job_id])
    assert job["status"] == "finished"
    assert job["results"][0]["path"] == "result"
    assert statuses(job).count("running") == 1


def test_a_local_job_that_ends_while_the_engine_is_down_is_recorded_at_the_next_start(engine: Engine) -> None:
    (job_id,) = engine.submit({"command": "sleep 0.5; exit 7"})
    engine.until_status(job_id, "running")
    engine.stop()
    directory = Path(engine.job(job_id)["dir"])
    until(lambda: (directory / ".execd" / "exit").exists(), "the job has ended")
    engine.start()
    (job,) = engine.wait([job_id])
    assert (job["status"], job["exit"]["code"]) == ("error", 7)


def test_app_fields_are_kept(engine: Engine) -> None:
    (job,) = engine.run({"command": ["true"], "my_app": {"page": 7, "nested": [1, {"a": None}]}})
    assert job["my_app"] == {"page": 7, "nested": [1, {"a": None}]}


NASTY = ["über/ß", "with blanks", "quo'te\"s", "new\nline", "$(touch hacked)", "-leading", "; rm -rf .", "`id`", "日本語"]


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names_harm_nobody(engine: Engine, name: str) -> None:
    (job,) = engine.run(
        {
            "name": name,
            "project": name,
            "owner": name,
            "tags": [name],
            "command": ["printf", "%s", name],
            "env": {"NASTY": name},
            "inputs": {name.replace("/", "_"): name},
        }
    )
    directory = Path(job["dir"])
    assert job["status"] == "finished", job.get("error")
    assert (directory / "stdout").read_text() == name
    assert (directory / name.replace("/", "_")).read_text() == name
    assert not list(engine.directory.rglob("hacked"))
    engine.execd("jobs")
    engine.execd("show", str(job["_id"]))


def test_a_job_with_ten_megabytes_of_input_runs(engine: Engine) -> None:
    (job,) = engine.run({"command": "wc -c < data", "inputs": {"data": "x" * 10_000_000}})
    assert (Path(job["dir"]) / "stdout").read_text().strip() == "10000000"


def test_inputs_that_would_leave_the_directory_are_refused(engine: Engine) -> None:
    names = ("../out", "/etc/x", ".execd/job_script", "a/../../b")
    with engine.client() as client:  # as an app that has only a driver of the database
        ids = client.store.insert([{"command": ["true"], "status": "to be built", "inputs": {name: "x"}} for name in names])
    jobs = engine.wait(ids)
    assert {job["exit"]["reason"] for job in jobs} == {"build failed"}


def test_a_job_that_writes_a_lot_and_leaves_children_behind_ends_and_frees_its_slot(engine: Engine) -> None:
    jobs = engine.run(
        {"command": "head -c 50000000 /dev/zero"},
        {"command": "sleep 300 & echo left"},
        {"command": ["true"]},
        {"command": ["true"]},
    )
    assert [job["status"] for job in jobs] == ["finished"] * 4


def test_a_job_whose_directory_vanishes_with_those_around_it_ends_and_holds_up_nobody(make_engine: MakeEngine) -> None:
    engine = make_engine(engine={"grace": "1s"})
    engine.start()
    (job_id,) = engine.submit({"command": "rm -rf ${EXECD_JOB_DIR%/*}; sleep 0.3"})
    (job,) = engine.wait([job_id])
    assert job["status"] == "error"
    assert engine.run({"command": ["true"]})[0]["status"] == "finished"


def test_a_job_inserted_into_an_idle_engine_starts_soon(engine: Engine) -> None:
    engine.run({"command": ["true"]})
    time.sleep(3)  # the actors end, the intervals grow: this is the idle engine that the test is about
    began = time.time()
    (job,) = engine.run({"command": "date +%s.%N"})
    started = float((Path(job["dir"]) / "stdout").read_text())
    assert started - began < 1.0
