"""What Torque's commands print, and what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.status import Status
from execution_engine.systems.torque_accounts import account_of, exceeded
from execution_engine.systems.torque_commands import Amounts, TorqueJob, Unreadable, read_jobs

LISTING = (Path(__file__).parent / "torque_output" / "qstat.xml").read_text()


def listed() -> dict[str, TorqueJob]:
    return {job.name: job for job in read_jobs(LISTING)}


def test_a_listing_has_all_jobs_with_what_is_known_of_them() -> None:
    jobs = listed()
    assert {name: job.state for name, job in jobs.items() if name.startswith("execd-")} == {
        "execd-run-1": "R",
        "execd-wait-1": "Q",
        "execd-hold-1": "H",
        "execd-later-1": "W",
        "execd-over-1": "C",
        "execd-done-1": "C",
    }
    assert jobs["execd-run-1"] == TorqueJob(
        "12.head01",
        "execd-run-1",
        "R",
        owner="execd",
        host="node1",
        used=Amounts(65.0, 3.0, 5160 * 1024, 317711 * 1024),
        limits=Amounts(7200.0, None, 2 << 30),
    )
    assert "Not enough" in jobs["execd-wait-1"].comment
    assert jobs["execd-over-1"].exit_status == -11


def test_what_is_no_xml_in_the_jobs_of_others_hides_no_job() -> None:
    assert "somebody's a && b > c" in listed()
    for name in ("a\x0eb", "]]>", "&&&", "&nosuch;", "bell\x07 \x1b[1m", "quote\" '", "slash/", ">"):
        assert len(read_jobs(LISTING.replace("execd-wait-1", name))) == 7


@pytest.mark.parametrize("nothing", ["", "\n", '<?xml version="1.0"?>\n', "<Data></Data>", '<?xml version="1.0"?>\n<Data/>\n'])
def test_no_job_at_all_is_an_answer(nothing: str) -> None:
    assert read_jobs(nothing) == []


@pytest.mark.parametrize("length", range(30, len(LISTING) - len("</Data>\n"), 61))
def test_a_listing_that_was_cut_short_is_none(length: int) -> None:
    with pytest.raises(Unreadable):
        read_jobs(LISTING[:length])


@pytest.mark.parametrize(
    "text",
    [
        "qstat: error",
        "<html></html>",
        LISTING.replace("<job_state>R</job_state>", ""),
        LISTING.replace("<Job_Id>12.head01</Job_Id>", ""),
        LISTING.replace("</job_state>", "", 1),
        LISTING.replace("<exit_status>-11", "<exit_status>soon"),
        LISTING.replace("</Job><Job>", "</Job>qstat: end of file<Job>", 1),
        LISTING + LISTING,
    ],
)
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_jobs(text)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("T", Status.PENDING),
        ("Q", Status.PENDING),
        ("W", Status.PENDING),
        ("H", Status.HOLD),
        ("R", Status.RUNNING),
        ("E", Status.RUNNING),
        ("S", Status.SUSPENDED),
        ("C", Status.ERROR),
        ("X", None),
    ],
)
def test_every_state_of_the_manual_page_has_its_status(state: str, status: Status | None) -> None:
    assert TorqueJob("1.h", "j", state).status is status


def test_only_the_exit_status_0_is_an_end_that_may_be_a_success() -> None:
    assert TorqueJob("1.h", "j", "C", 0).status is Status.FINISHED
    assert TorqueJob("1.h", "j", "C", 1).status is Status.ERROR


@pytest.mark.parametrize(
    ("text", "seconds"), [("02:00:00", 7200), ("1:30", 90), ("90", 90), ("0:0:1.5", 1.5), ("100:00:00", 360000), ("soon", None)]
)
def test_times_are_read_in_every_form(text: str, seconds: float | None) -> None:
    (job, *_) = read_jobs(LISTING.replace("<walltime>02:00:00<", f"<walltime>{text}<"))
    assert job.limits.walltime == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("2gb", 2 << 30), ("512", 512), ("100b", 100), ("3kb", 3072), ("1tb", 1 << 40), ("2KW", 16384), ("4w", 32), ("?", None)],
)
def test_sizes_are_read_with_their_units(text: str, size: int | None) -> None:
    (job, *_) = read_jobs(LISTING.replace("<mem>2gb<", f"<mem>{text}<"))
    assert job.limits.mem == size


# --- the end of a job


def ended(exit_status: int | None, **more: object) -> TorqueJob:
    return replace(TorqueJob("1.h", "j", "C", exit_status, host="node1"), **more)


@pytest.mark.parametrize(
    ("exit_status", "started", "reason", "code", "settled"),
    [
        (0, True, None, 0, False),
        (3, True, None, 3, False),
        (143, True, None, 143, False),
        (-10, True, "memory", None, True),
        (-11, True, "walltime", None, True),
        (-12, True, "cpu time", None, True),
        (271, True, None, 143, True),
        (265, True, None, 137, True),
        (271, False, "killed by the system", None, True),
        (0, False, None, 0, False),
        (127, False, None, None, True),
        (None, False, "never started", None, True),
        (None, True, "node lost", None, True),
        (-4, True, "node lost", None, True),
        *((code, False, "never started", None, True) for code in (-1, -2, -3, -4, -7, -8, -9, -13, -14, -99)),
    ],
)
def test_the_exit_status_tells_how_a_job_ended(
    exit_status: int | None, started: bool, reason: str | None, code: int | None, settled: bool
) -> None:
    account = account_of([ended(exit_status)], started=started)
    assert account is not None
    assert (account.reason, account.code, account.settled) == (reason, code, settled)
    assert ("exit_status" in account.message) == (exit_status != 0)


def test_the_words_of_torque_are_kept() -> None:
    account = account_of([ended(-9, comment="cannot create /dev/full")], started=False)
    assert account is not None
    assert account.message == "Torque says: exit_status -9, its output files could not be made (cannot create /dev/full)"


def test_what_is_not_there_or_still_there_has_no_account() -> None:
    assert account_of([], started=True) is None
    assert account_of([TorqueJob("1.h", "j", "R")], started=True) is None


def test_the_entry_of_a_copy_that_ended_at_once_does_not_hide_the_jobs_own() -> None:
    own, copy = ended(-11, used=Amounts(walltime=60.0)), ended(0)
    for both in ([own, copy], [copy, own]):
        account = account_of(both, started=True)
        assert account is not None
        assert account.reason == "walltime"
        assert account.usage is not None
        assert account.usage.wall == 60


RUNNING = TorqueJob("1.h", "j", "R", limits=Amounts(walltime=10.0, mem=1 << 30))


@pytest.mark.parametrize(
    ("job", "record", "reason"),
    [
        (ended(-11), ExitRecord(143, 1, "n", wall=3.0), "walltime"),
        (ended(-10), ExitRecord(137, 1, "n", wall=3.0), "memory"),
        (RUNNING, ExitRecord(143, 1, "n", wall=12.0), "walltime"),
        (replace(RUNNING, used=Amounts(mem=2 << 30)), ExitRecord(143, 1, "n", wall=2.0), "memory"),
        (replace(RUNNING, limits=Amounts(vmem=1 << 30), used=Amounts(vmem=2 << 30)), ExitRecord(143, 1, "n", wall=2.0), "memory"),
        (replace(RUNNING, limits=Amounts(cput=9.0), used=Amounts(cput=9.0)), ExitRecord(143, 1, "n", wall=2.0), "cpu time"),
        (ended(-12), ExitRecord(143, 1, "n", wall=3.0), "cpu time"),
        (replace(RUNNING, used=Amounts(walltime=12.0)), ExitRecord(143, 1, "n"), "walltime"),
        (RUNNING, ExitRecord(143, 1, "n", wall=2.0), None),
        (RUNNING, ExitRecord(139, 1, "n", wall=12.0), None),
        (RUNNING, ExitRecord(3, 1, "n", wall=12.0), None),
        (ended(271), ExitRecord(143, 1, "n", wall=12.0), None),
        (TorqueJob("1.h", "j", "R"), ExitRecord(143, 1, "n", wall=1e6), None),
    ],
)
def test_a_command_that_was_ended_at_a_limit_and_recorded_is_told_apart(
    job: TorqueJob, record: ExitRecord, reason: str | None
) -> None:
    account = exceeded([job], record)
    assert (account.reason if account else None) == reason


def test_a_job_that_was_deleted_while_it_waited_never_started() -> None:
    account = account_of([replace(ended(271), host="")], started=False)
    assert account is not None
    assert account.reason == "never started"


def test_a_job_whose_script_was_started_again_was_rerun_unless_it_was_submitted_twice() -> None:
    account = account_of([ended(0)], started=True, came_back=True)
    assert account is not None
    assert (account.reason, "qrerun" in account.message) == ("rerun", True)
    account = account_of([ended(0), ended(143)], started=True, came_back=True)
    assert account is not None
    assert (account.reason, account.code) == (None, 143)


@pytest.mark.parametrize(("code", "words"), [(126, "may not execute the job script"), (127, "does not see the job script")])
def test_the_shells_code_tells_why_a_script_did_not_begin(code: int, words: str) -> None:
    account = account_of([ended(code)], started=False)
    assert account is not None
    assert words in account.message
