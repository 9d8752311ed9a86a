"""What Grid Engine's commands print, as captured from a real cell, and what it means."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import pytest

from execution_engine.jobs.status import Status
from execution_engine.systems.ogs_accounts import account_of
from execution_engine.systems.ogs_commands import (
    QueuedJob,
    Record,
    Unreadable,
    accounting,
    alike,
    read_accounting,
    read_explanation,
    read_queue,
    status_of,
)

CAPTURED = Path(__file__).parent / "gridengine_output"
LISTING = (CAPTURED / "qstat.xml").read_text()


def records(name: str) -> list[Record]:
    return read_accounting((CAPTURED / f"qacct-{name}.txt").read_text())


def test_a_listing_has_all_jobs_with_their_full_names_and_states() -> None:
    jobs = read_queue(LISTING)
    assert {job.name: job.state for job in jobs if job.name.startswith("execd-")} == {
        "execd-run-1": "r",
        "execd-sus-1": "s",
        "execd-eqw-1": "Eqw",
        "execd-wait-1": "qw",
        "execd-hold-1": "hqw",
    }
    assert len({job.native_id for job in jobs}) == 6
    assert QueuedJob("376", "execd-eqw-1", "Eqw", "alice") in jobs


def test_an_empty_queue_is_an_answer() -> None:
    assert read_queue((CAPTURED / "qstat-empty.xml").read_text()) == []


@pytest.mark.parametrize("length", range(0, len(LISTING) - len("</job_info>\n"), 97))
def test_a_listing_that_was_cut_short_is_none(length: int) -> None:
    with pytest.raises(Unreadable):
        read_queue(LISTING[:length])


@pytest.mark.parametrize("text", ["error: cannot connect", "<html></html>", LISTING.replace("<state>r</state>", "")])
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_queue(text)


def test_a_name_with_control_characters_hides_no_job() -> None:
    assert len(read_queue(LISTING.replace("execd-wait-1", "bell\x07 and \x00 \x1b[1m"))) == len(read_queue(LISTING))


@pytest.mark.parametrize(
    ("status", "states"),
    [
        (Status.PENDING, "qw Rq t Rt dt dRt"),
        (Status.HOLD, "hqw hRwq"),
        (Status.RUNNING, "r hr Rr dr dRr"),
        (Status.SUSPENDED, "s ts S tS T tT Rs Rts RS RtS RT RtT ds dS dT dRs dRS dRT"),
        (Status.ERROR, "Eqw Ehqw EhRqw"),
        (None, "z ? running"),
    ],
)
def test_every_state_of_the_manual_page_has_its_status(status: Status | None, states: str) -> None:
    assert {state: status_of(state) for state in states.split()} == dict.fromkeys(states.split(), status)


def test_an_error_is_explained_in_the_words_of_the_system() -> None:
    text = (CAPTURED / "qstat-j-error.txt").read_text()
    assert read_explanation(text).endswith("error: can't chdir to /nonexistent: No such file or directory")
    assert read_explanation("job_number: 4\n") == ""


def test_an_accounting_record_is_read_with_its_units() -> None:
    (record,) = records("memory")
    assert (record.native_id, record.failed, record.exit_status, record.host) == ("367", 37, 137, "node1")
    assert (record.wall, record.cpu) == (1.0, 0.21)
    assert record.memory == int(317.711 * 1024**2)
    assert record.limits == {"h_rt": 100.0, "h_vmem": 200.0 * 1024**2}


def test_times_of_limits_are_read_in_every_form() -> None:
    text = (CAPTURED / "qacct-walltime.txt").read_text()
    for form, seconds in (("h_rt=7200", 7200), ("h_rt=2:0:0", 7200), ("h_rt=:1:30", 90), ("h_rt=90", 90)):
        (record,) = read_accounting(text.replace("h_rt=2", form))
        assert record.limits == {"h_rt": seconds}


def test_several_records_of_one_name_are_all_read() -> None:
    text = (CAPTURED / "qacct-code.txt").read_text() + (CAPTURED / "qacct-done.txt").read_text()
    assert [record.exit_status for record in read_accounting(text)] == [3, 0]


@pytest.mark.parametrize("missing", ["failed ", "exit_status ", "jobnumber "])
def test_a_record_that_is_not_whole_is_refused(missing: str) -> None:
    text = (CAPTURED / "qacct-code.txt").read_text()
    with pytest.raises(Unreadable):
        read_accounting("".join(line for line in text.splitlines(keepends=True) if not line.startswith(missing)))


@pytest.mark.parametrize(
    ("name", "reason", "code", "settled"),
    [
        ("done", None, 0, False),
        ("code", None, 3, False),
        ("signal", None, 137, True),
        ("memory", "memory", 137, True),
        ("walltime", "walltime", 137, True),
        ("absent", "never started", None, True),
    ],
)
def test_a_record_tells_how_a_job_ended(name: str, reason: str | None, code: int | None, settled: bool) -> None:
    account = account_of(records(name))
    assert account is not None
    assert (account.reason, account.code, account.settled) == (reason, code, settled)
    assert ("failed" in account.message) == (name not in ("done", "code"))


def test_no_record_is_no_account() -> None:
    assert account_of([]) is None


def test_the_record_of_a_copy_that_ended_at_once_does_not_hide_the_jobs_own() -> None:
    for both in (records("signal") + records("done"), records("done") + records("signal")):
        account = account_of(both)
        assert account is not None
        assert account.code == 137


@pytest.mark.parametrize("failed", [18, 19, 20, 21, 24, 25, 99])
def test_a_failure_that_leaves_the_end_open_says_nothing_of_it(failed: int) -> None:
    text = (CAPTURED / "qacct-absent.txt").read_text().replace("failed       27 ", f"failed       {failed} ")
    account = account_of(read_accounting(text))
    assert account is not None
    assert (account.reason, account.code) == (None, None)
    assert str(failed) in account.message


def test_names_are_asked_about_in_groups_whose_patterns_fit_few_others() -> None:
    random = Random(7)
    names = [f"execd-{random.randrange(16**24):024x}-1" for _ in range(300)]
    one_after_the_other = [f"execd-6b09cdb5a2c40a99cb{number:06x}-1" for number in range(300)]
    later = [f"execd-6b09cdb5a2c40a99cb{number:06x}-12" for number in range(30)]
    groups = list(alike([*names, *one_after_the_other, *later]))
    assert sorted(name for group in groups for name in group) == sorted([*names, *one_after_the_other, *later])
    assert len(groups) <= 300 / 20 + 4
    for group in groups:
        pattern = accounting(group, "alice")[-1]
        assert all(fnmatchcase(name, pattern) for name in group)
    assert sum(fnmatchcase(one_after_the_other[0], accounting(group, "alice")[-1]) for group in groups) <= 2


def test_a_pattern_takes_no_character_for_more_than_itself() -> None:
    names = ["execd-a-1", "execd---1", "execd-z-1", "execd-_-1"]
    pattern = accounting(names, "alice")[-1]
    assert all(fnmatchcase(name, pattern) for name in names)
    assert not any(fnmatchcase(f"execd-{other}-1", pattern) for other in "b.0*[]!^")


def test_a_job_that_was_rescheduled_while_it_ran_was_rerun() -> None:
    text = (CAPTURED / "qacct-done.txt").read_text()
    rescheduled = re.sub(r"^failed .*", "failed       25  : rescheduling", text, flags=re.MULTILINE)
    records = read_accounting(rescheduled + text)
    account = account_of(records, came_back=True)
    assert account is not None
    assert (account.reason, "qmod -rj" in account.message) == ("rerun", True)
    account = account_of(records)
    assert account is not None
    assert account.reason is None


@pytest.mark.parametrize(("slots", "reason"), [(1, "cpu time"), (2, None)])
def test_a_job_that_a_signal_ended_at_its_limit_of_processor_time_says_so(slots: int, reason: str | None) -> None:
    text = (CAPTURED / "qacct-signal.txt").read_text()
    for name, value in (("slots", f"{slots}"), ("cpu", "7.5s"), ("category", "-l h_cpu=7")):
        text = re.sub(rf"^{name} .*", f"{name} {value}", text, flags=re.MULTILINE)
    account = account_of(read_accounting(text))
    assert account is not None
    assert account.reason == reason
