"""Why a job waits, was routed so, or failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.cli.explain import explain
from execution_engine.jobs.status import Status

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ENGINE: dict[str, Any] = {"systems": {"here": {"ok": True, "slots": 4, "active": 4, "waiting": 12}}}


def why(engine: dict[str, Any] | None = ENGINE, **fields: Any) -> str:
    return "; ".join(explain({"_id": "j", **fields}, NOW, engine)["why"])


def test_a_draft_waits_for_its_app():
    assert "draft" in why(status="init", engine=None)


def test_a_job_that_is_not_due_says_when_it_is():
    assert "must not start before" in why(status="to be built", not_before=NOW + timedelta(minutes=5))
    assert "in 5m00s" in why(status="to be built", not_before=NOW + timedelta(minutes=5))
    assert "waits for a building actor" in why(status="to be built", not_before=NOW - timedelta(minutes=5))


def test_a_job_that_another_engine_has_in_hand_names_it():
    lane = {"execution": {"lane": "here@node8-1", "system": "here", "job_no": "7.1"}, "lease": {"token": 2}}
    engine = {"systems": {"here": {"lane": "here@node7-1"}}, "elsewhere": {"here@node8-1": "node8-abc"}}
    assert "engine node8-abc" in why(status="running", engine=engine, **lane)
    assert "no execution system" in why(status="running", engine={**engine, "elsewhere": {}}, **lane)


def test_a_dates_without_time_zone_is_in_utc():
    assert "in 5m00s" in why(status="to be built", not_before=NOW.replace(tzinfo=None) + timedelta(minutes=5))


def test_a_job_that_is_tried_again_later_says_when_and_why():
    said = why(status="to be submitted", due_at=NOW + timedelta(seconds=30), lease={"token": 1, "crash": "killed by SIGSEGV"})
    assert "in 30s" in said
    assert "killed by SIGSEGV" in said


def test_a_job_without_a_free_slot_says_how_many_there_are():
    said = why(status="to be submitted", execution={"system": "here"}, resources={"cores": 2})
    assert said == "it waits for 2 free of the 4 slots of here; 4 are in use, 12 jobs wait"


def test_a_job_on_a_system_that_does_not_answer_says_so():
    engine = {"systems": {"here": {"ok": False, "message": "connection refused"}}}
    assert why(engine, status="to be submitted", execution={"system": "here"}) == "here does not answer: connection refused"


def test_a_job_of_a_system_that_this_engine_does_not_have_waits_for_a_place_there():
    assert why(status="to be submitted", execution={"system": "there"}) == "it waits for a place on there"


def test_no_engine_is_a_reason_to_wait():
    assert "no engine is running" in why(None, status="to be built")
    assert "no engine is running" not in why(None, status="finished")


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_an_explanation(status: Status):
    assert why(status=status.value)


def test_requests_that_wait_or_were_refused_are_told():
    assert "kill is requested" in why(status="running", request="kill")
    for status in ("to be built", "finished"):
        assert "suspend it was refused: not running" in why(status=status, refused={"what": "suspend", "why": "not running"})


def test_a_failed_job_tells_its_first_cause_its_exit_and_the_end_of_its_stderr(tmp_path: Path):
    (tmp_path / "stderr").write_bytes(b"".join(b"line %d\n" % n for n in range(5000)) + b"\xff last")
    error = {"kind": "job", "message": "it ran too long"}
    exit_ = {"code": 143, "signal": "SIGTERM", "reason": "walltime"}
    facts = explain({"_id": "j", "status": "error", "dir": str(tmp_path), "error": error, "exit": exit_}, NOW, None)
    assert facts["why"] == ["job: it ran too long", "its command ended: exit code 143 (SIGTERM), walltime"]
    assert facts["stderr"] == [f"line {n}" for n in range(4991, 5000)] + ["\ufffd last"]


def test_a_kill_that_the_system_has_not_confirmed_is_told_until_the_job_ends():
    requested = {"what": "kill", "at": NOW, "sent": True}
    execution = {"system": "here", "job_no": "7"}
    assert "kill was sent at" in why(status="running", requested=requested, execution=execution)
    assert "to here, which has not confirmed it yet" in why(status="running", requested=requested, execution=execution)
    assert "confirmed" not in why(status="killed", requested=requested, execution=execution)
    assert "confirmed" not in why(status="running", requested=requested | {"sent": False}, execution=execution)


def test_a_refusal_before_the_last_accepted_request_is_not_told():
    refused = {"what": "suspend", "at": NOW, "why": "not running"}
    for moment, told in ((NOW - timedelta(1), True), (NOW + timedelta(1), False)):
        said = why(status="to be built", refused=refused, requested={"what": "hold", "at": moment})
        assert ("suspend it was refused" in said) is told


def test_an_ending_is_told_once_with_the_command_that_was_not_found():
    error = {"kind": "command not found", "message": "the shell did not find the command (exit code 127)"}
    said = why(status="error", error=error, exit={"code": 127, "reason": "command not found"}, command=["sortt", "x"])
    assert said.count("127") == 1
    assert "the command is 'sortt'" in said


def test_a_command_that_never_ran_did_not_end():
    assert "command ended" not in why(status="killed", exit={"code": None, "reason": "killed"})


def test_a_limit_that_was_passed_is_told_with_what_was_used():
    said = why(status="error", exit={"code": 137, "reason": "memory"}, resources={"memory": "512M"}, usage={"memory": 600 << 20})
    assert "its resources.memory is 512M, it used 600M" in said
    said = why(status="error", exit={"reason": "walltime"}, resources={"walltime": "1h"}, usage={"wall": 3605.0})
    assert "its resources.walltime is 1h00m, it used 1h00m" in said


@pytest.mark.parametrize("status", ["running", "hold", "unknown", "to be submitted", "submitting"])
def test_a_job_that_was_inserted_with_a_status_of_the_engine_is_told_so(status: str):
    assert f"it was inserted as '{status}', a status that only the engine sets" in why(status=status)
    assert "inserted as" not in why(status=status, lease={"token": 3})


def test_a_system_without_a_name_is_an_execution_system():
    assert why(status="running", lease={"token": 3}) == "an execution system has it"


def test_stderr_that_cannot_be_read_is_told_and_not_raised(tmp_path: Path):
    facts = explain({"_id": "j", "status": "error", "dir": str(tmp_path / "gone")}, NOW, None)
    assert "No such file" in facts["stderr"][0]
    assert facts["why"] == ["no reason is recorded"]


def test_the_routing_lists_each_rule_and_its_answer():
    asked = [{"route": "big", "rule": "memory_at_least", "answer": False, "error": None}]
    facts = explain(
        {"_id": "j", "status": "running", "execution": {"route": "default", "system": "here", "why": asked}}, NOW, ENGINE
    )
    assert facts["routing"] == asked
    assert (facts["route"], facts["system"]) == ("default", "here")


@pytest.mark.parametrize("junk", ["text", 5, [1, "x"], {"a": 1}, None])
@pytest.mark.parametrize("status", ["to be built", "to be submitted", "running", "error", "nonsense", None])
def test_a_document_of_wrong_types_is_explained_as_well_as_it_can_be(status: str | None, junk: Any):
    fields = ("execution", "error", "exit", "lease", "refused", "times", "resources", "not_before", "due_at", "dir", "request")
    assert explain({"_id": 1, "status": status, **dict.fromkeys(fields, junk)}, NOW, ENGINE)["why"]


def test_a_job_that_a_full_disk_holds_back_says_so_in_its_own_words_and_in_the_engines():
    full = "cannot be built now: [Errno 28] No space left on device: '/jobs/p'"
    history = [{"status": "building", "why": "claimed"}, {"status": "to be built", "why": full}]
    outages = [
        {"what": "jobs_dir", "since": NOW.isoformat(), "error": "cannot build in /jobs: No space left on device", "count": 3},
        {"what": "system elsewhere", "since": NOW.isoformat(), "error": "connection refused", "count": 3},
    ]
    said = why({"systems": {}, "outages": outages}, status="to be built", due_at=NOW + timedelta(seconds=15), history=history)
    assert "it is taken up again at" in said
    assert f"because of: {full}" in said
    assert "jobs_dir has not worked since" in said
    assert "cannot build in /jobs: No space left on device" in said
    assert "connection refused" not in said


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ("to be built", "post building"),
        ("to be submitted", "post submit here"),
        ("running", "post status here"),
        ("pending", "system here"),
        ("running", "the file system of jobs_dir"),
        ("to be built", "database"),
    ],
)
def test_an_outage_of_what_a_job_needs_is_told(status: str, what: str):
    outages = [{"what": what, "since": NOW.isoformat(), "error": "its last words"}]
    fields = {"status": status, "execution": {"system": "here"}, "lease": {"token": 1}}
    assert "its last words" in why({"systems": {}, "outages": outages}, **fields)
    assert "its last words" not in why({"systems": {}, "outages": outages}, status="finished")


def test_a_system_that_answers_slowly_is_told_of_its_jobs():
    engine = {"systems": {"here": {"ok": True, "lane": "here", "slow": "qacct takes 45 s"}}}
    assert "qacct takes 45 s" in why(engine, status="pending", execution={"system": "here", "lane": "here"}, lease={"token": 1})
