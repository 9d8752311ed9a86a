"""The decision about a job: record, queue and accounting brought together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from execution_engine.engine.verdict import Observed, Verdict, judge
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job, Usage
from execution_engine.jobs.reasons import REASONS
from execution_engine.jobs.status import Status, may_follow
from execution_engine.systems.execution_systems import Account

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
GRACE = 30.0


def job(status: Status = Status.RUNNING, since: float = 0.0, **fields: Any) -> Job:
    history = [{"status": status, "at": NOW - timedelta(seconds=since)}]
    return Job.from_document({"_id": "j", "status": status, "command": ["true"], "history": history, **fields})


def decide(subject: Job, **seen: Any) -> Verdict:
    verdict = judge(subject, Observed(**{"record": None, "status": None, **seen}), NOW, GRACE)
    assert verdict.status is subject.status or may_follow(subject.status, verdict.status)
    reason = (verdict.fields.get("exit") or {}).get("reason")
    assert reason is None or reason in REASONS
    return verdict


def killed(**fields: Any) -> Job:
    return job(requested={"what": "kill", "at": NOW, "sent": True}, **fields)


def record(code: int) -> ExitRecord:
    return ExitRecord(
        code=code, attempt=1, host="node7", started=NOW.timestamp() - 5, ended=NOW.timestamp() - 1, wall=4.0, cpu=2.0
    )


@pytest.mark.parametrize("code", [0, 3, 127])
def test_a_prologue_that_ended_is_no_success_and_not_the_command_s_fault(code: int) -> None:
    in_prologue = replace(record(code), in_prologue=True)
    verdict = decide(job(), record=in_prologue)
    assert (verdict.status, verdict.fields["exit"]["reason"]) == (Status.ERROR, "prologue failed")
    assert f"(exit code {code})" in verdict.fields["error"]["message"]
    assert decide(killed(), record=in_prologue).fields["exit"]["reason"] == "killed"


def test_a_record_with_exit_code_0_is_success() -> None:
    verdict = decide(job(), record=record(0))
    assert verdict.status is Status.FINISHED
    assert verdict.fields["exit"] == {"code": 0, "signal": None, "reason": None}
    assert verdict.fields["usage"]["host"] == "node7"
    assert verdict.fields["times.ended"] == NOW - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("code", "signal", "reason"),
    [(1, None, "exit code"), (127, None, "command not found"), (126, None, "command not executable"), (139, "SIGSEGV", "signal")],
)
def test_a_record_with_another_code_is_an_error_with_its_reason(code: int, signal: str | None, reason: str) -> None:
    verdict = decide(job(), record=record(code))
    assert verdict.status is Status.ERROR
    assert verdict.fields["exit"] == {"code": code, "signal": signal, "reason": reason}
    assert verdict.fields["error"]["kind"] == reason


def test_what_the_system_did_is_the_reason_and_its_measures_win() -> None:
    account = Account(reason="memory", usage=Usage(memory=1 << 30, cpu=7.5), message="used 1.1G of 1G")
    verdict = decide(job(), record=record(143), account=account)
    assert (verdict.status, verdict.fields["exit"]["reason"]) == (Status.ERROR, "memory")
    assert verdict.fields["usage"]["memory"] == 1 << 30
    assert verdict.fields["usage"]["cpu"] == 7.5
    assert verdict.fields["usage"]["wall"] == 4.0
    assert verdict.fields["error"]["details"] == "used 1.1G of 1G"


def test_a_job_that_was_asked_to_end_and_was_ended_by_a_signal_is_killed() -> None:
    assert decide(killed(), record=record(143)).status is Status.KILLED


def test_a_job_that_was_faster_than_its_kill_has_finished() -> None:
    assert decide(killed(), record=record(0)).status is Status.FINISHED


def test_a_job_that_catches_its_kill_and_ends_with_a_code_of_its_own_is_killed() -> None:
    verdict = decide(killed(), record=record(3))
    assert (verdict.status, verdict.fields["exit"]["code"]) == (Status.KILLED, 3)


def test_a_kill_counts_also_when_its_sender_died_before_it_could_say_so() -> None:
    subject = job(request="kill")
    assert decide(subject, record=record(143)).status is Status.KILLED
    assert decide(subject, record=record(3)).status is Status.ERROR


def test_a_signal_that_nobody_here_sent_is_an_error() -> None:
    assert decide(job(), record=record(137)).status is Status.ERROR


def test_a_query_that_failed_says_nothing_about_a_job() -> None:
    assert decide(job(), status=None) == Verdict(Status.RUNNING)


def test_a_job_that_is_gone_without_a_record_is_unknown_first() -> None:
    assert decide(job(), status=Status.FINISHED, started=True).status is Status.UNKNOWN


def test_a_job_that_stays_unknown_ends_in_error_after_the_grace_period() -> None:
    assert decide(job(Status.UNKNOWN, since=GRACE - 1), status=Status.UNKNOWN, started=True).status is Status.UNKNOWN
    verdict = decide(job(Status.UNKNOWN, since=GRACE + 1), status=Status.UNKNOWN, started=True)
    assert (verdict.status, verdict.fields["exit"]["reason"]) == (Status.ERROR, "node lost")


def test_a_job_that_its_node_could_not_run_never_started_although_it_was_seen_running() -> None:
    account = Account(message="exit_status 127", presumed="never started")
    for since, reason in ((GRACE - 1, None), (GRACE + 1, "never started")):
        verdict = decide(job(Status.UNKNOWN, since), status=Status.UNKNOWN, account=account, started=True)
        assert (verdict.fields.get("exit") or {}).get("reason") == reason


def test_a_job_that_vanished_before_its_command_started_never_started() -> None:
    verdict = decide(job(Status.UNKNOWN, since=GRACE + 1), status=Status.UNKNOWN, started=False)
    assert verdict.fields["exit"]["reason"] == "never started"


def test_a_script_that_ended_well_without_a_record_is_no_success() -> None:
    gone: dict[str, Any] = {"status": Status.FINISHED, "account": Account(code=0), "started": True}
    assert decide(job(), **gone).status is Status.UNKNOWN
    verdict = decide(job(Status.UNKNOWN, since=GRACE + 1), **gone)
    assert (verdict.status, verdict.fields["exit"]["reason"]) == (Status.ERROR, "no exit record")


def test_a_script_that_was_killed_itself_is_known_by_its_wait_status() -> None:
    verdict = decide(job(), status=Status.ERROR, account=Account(code=137), started=True)
    assert verdict.fields["exit"] == {"code": 137, "signal": "SIGKILL", "reason": "signal"}


def test_a_kill_is_done_when_the_system_has_the_job_no_longer() -> None:
    assert decide(killed(), status=Status.RUNNING).status is Status.RUNNING
    assert decide(killed(), status=Status.KILLED).status is Status.KILLED


def test_the_first_cause_is_kept() -> None:
    subject = job(error={"kind": "walltime", "message": "the first"})
    assert "error" not in decide(subject, record=record(1)).fields


def test_a_job_that_begins_to_run_gets_its_start_time() -> None:
    assert decide(job(Status.PENDING), status=Status.RUNNING).fields == {"times.started": NOW}


def test_a_script_that_ended_by_itself_has_the_grace_period_for_its_record() -> None:
    account = Account(code=3, settled=False)
    assert decide(job(), status=Status.UNKNOWN, account=account).status is Status.UNKNOWN
    verdict = decide(job(Status.UNKNOWN, since=GRACE + 1), status=Status.UNKNOWN, account=account)
    assert verdict.status is Status.ERROR
    assert (verdict.fields["exit"]["code"], verdict.fields["exit"]["reason"]) == (3, "no exit record")
