"""Commands that ask something for jobs, by their ids or by a filter; against a real database, without an engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from execution_engine.cli import main
from execution_engine.jobs.status import REQUESTS, Status
from tests.support.commands import CommandLine, move_all


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


def submit(execd: CommandLine, *options: str) -> str:
    """The id of a new job."""
    result = execd("submit", *options, "--", "true")
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def submit_and_move(execd: CommandLine, status: Status, *options: str) -> str:
    """The id of a new job that was taken to this status."""
    job = submit(execd, *options)
    with execd.client() as client:
        move_all(client.store, status)
    return job


def requested(execd: CommandLine, what: str) -> set[str]:
    """The jobs that have this request."""
    return {job["_id"] for job in execd.json("jobs") if job.get("request") == what}


@pytest.mark.parametrize("what", sorted(REQUESTS))
def test_the_help_of_a_request_has_paragraphs(what: str):
    help_text = CliRunner().invoke(main, [what, "--help"]).output
    assert re.search(r"\n\n  Give the jobs, or a filter", help_text)
    assert f"\n    execd {what} --owner" in help_text


# --- by id


@pytest.mark.parametrize("what", sorted(REQUESTS.keys() - {"retry"}))
def test_a_request_is_stored_on_the_jobs(execd: CommandLine, what: str):
    jobs = [submit(execd) for _ in range(2)]
    assert execd.json(what, *jobs, jobs[0]) == {"requested": jobs, "refused": {}}
    assert {execd.json("show", job)["request"] for job in jobs} == {what}


def test_a_request_for_a_job_that_has_ended_is_refused_and_the_others_get_it(execd: CommandLine):
    ended = submit(execd)
    with execd.client() as client:
        move_all(client.store, Status.FINISHED)
    waiting = submit(execd)
    result = execd("kill", ended, waiting)
    assert result.exit_code == 1
    assert result.stdout == f"{waiting}: kill requested\n"
    assert f"{ended} has ended already (finished)" in result.stderr


def test_a_request_for_an_unknown_job_asks_nothing_for_the_others(execd: CommandLine):
    job = submit(execd)
    result = execd("kill", job, "unknown", "neither")
    assert result.exit_code == 1
    for words in ("no job 'unknown'", "no job 'neither'", "kill: nothing was requested"):
        assert words in result.stderr
    assert execd.json("show", job).get("request") is None


def test_a_request_for_a_job_of_an_unknown_status_is_refused_with_the_reason(execd: CommandLine):
    job = submit(execd)
    with execd.client() as client:
        client.store.insert([{"_id": "odd", "status": "done", "command": "true"}])
    result = execd("kill", job, "odd")
    assert result.exit_code == 1
    assert "odd has the status 'done', which no engine knows" in result.stderr
    assert execd.json("show", job).get("request") is None


def test_a_retry_is_stored_on_jobs_that_failed_or_were_killed_only(execd: CommandLine):
    failed, killed, finished = (submit_and_move(execd, status) for status in (Status.ERROR, Status.KILLED, Status.FINISHED))
    running = submit_and_move(execd, Status.RUNNING)
    result = execd("retry", failed, finished, killed, running)
    assert result.exit_code == 1
    assert requested(execd, "retry") == {failed, killed}
    assert f"{finished} finished: what finished is not run again" in result.stderr
    assert f"{running} has not ended (running)" in result.stderr
    assert execd.json("retry", running, code=1) == {"requested": [], "refused": {running: "running"}}


def test_a_job_that_is_to_be_retried_has_not_ended_for_who_waits(execd: CommandLine):
    failed = submit_and_move(execd, Status.ERROR)
    assert execd("wait", failed, "--timeout", "50ms").exit_code == 10
    execd("retry", failed)
    result = execd("wait", failed, "--timeout", "50ms")
    assert (result.exit_code, "have not ended" in result.stderr) == (1, True)
    assert "retry is requested" in execd("explain", failed).stdout


# --- by a filter


def test_a_filter_asks_for_the_jobs_for_which_the_request_makes_sense(execd: CommandLine):
    wanted = {submit(execd, "--owner", "alice", "--tag", "nightly") for _ in range(3)}
    submit(execd, "--owner", "alice")
    submit(execd, "--owner", "bob", "--tag", "nightly")
    result = execd("kill", "--owner", "alice", "--tag", "nightly", stdin="y\n")
    assert result.exit_code == 0
    assert all(job in result.stdout.split("Kill these 3 jobs?")[0] for job in wanted)
    assert requested(execd, "kill") == wanted


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_a_filter_touches_nothing(execd: CommandLine, answer: str):
    submit(execd, "--owner", "alice")
    result = execd("kill", "--owner", "alice", stdin=answer)
    assert result.exit_code == 1
    assert "kill: nothing was requested" in result.stderr
    assert requested(execd, "kill") == set()


def test_with_yes_a_filter_asks_nobody(execd: CommandLine):
    failed = submit_and_move(execd, Status.ERROR, "--project", "genomes")
    submit_and_move(execd, Status.FINISHED, "--project", "genomes")
    assert execd.json("retry", "--project", "genomes", "--since", "1h", "--yes") == {"requested": [failed], "refused": {}}
    assert execd("hold", "--system", "here", "--yes").stdout == ""


def test_many_jobs_are_shown_in_part_and_asked_for_all(execd: CommandLine):
    with execd.client() as client:
        client.submit([{"command": ["true"], "owner": "alice"}] * 60)
    result = execd("kill", "--owner", "alice", stdin="y\n")
    assert "… and 10 more" in result.stdout
    assert len(requested(execd, "kill")) == 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give either jobs or a filter"),
        (("some", "--owner", "alice"), "Give either jobs or a filter"),
        (("--owner", "alice", "--json"), "needs --yes"),
        (("--status", "finished"), "kill makes sense for jobs that are to be built, building"),
        (("--owner", "alice", "--since", "yore"), "'yore' is not a date"),
        (("--owner", "alice", "--since", "yore"), "2h or 1d"),
        (("--owner", "alice", "--since", "0001-01-01T00:00+14:00"), "the date is out of range"),
    ],
)
def test_a_request_that_cannot_be_understood_is_wrong_usage(execd: CommandLine, words: tuple[str, ...], message: str):
    result = execd("kill", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("words", [("kill",), ("show",), ("explain",), ("logs",), ("wait",), ("events", "--job")])
def test_an_empty_id_is_the_beginning_of_no_job(execd: CommandLine, words: tuple[str, ...]):
    execd("submit", "--", "true")
    result = execd(*words, "")
    assert result.exit_code == 2
    assert "an empty text is no id" in " ".join(result.stderr.split())
    assert requested(execd, "kill") == set()


@pytest.mark.parametrize(("answer", "advice"), [("n\n", False), ("", True)], ids=["no", "nobody there"])
def test_only_where_nobody_answers_is_yes_advised(execd: CommandLine, answer: str, advice: bool):
    execd("submit", "--owner", "alice", "--", "true")
    result = execd("kill", "--owner", "alice", stdin=answer)
    assert (result.exit_code, "nothing was requested" in result.stderr, "--yes" in result.stderr) == (1, True, advice)
