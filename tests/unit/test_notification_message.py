"""The message about a job's end says what its owner wants to know, and nothing that could do harm."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.jobs.job import Job
from execution_engine.notification.message import about, last_lines

START = datetime(2026, 11, 20, 16, 0, 0, tzinfo=UTC)


def job(**fields: Any) -> Job:
    document = {"_id": "j1", "status": "finished", "command": "true", "name": "blast", "owner": "jane", "project": "bio"}
    return Job.from_document({**document, **fields})


def test_a_finished_job_is_told_with_its_facts() -> None:
    ended = job(
        exit={"code": 0},
        usage={"wall": 65.0, "cpu": 12.0, "memory": 3 << 30, "host": "node7"},
        times={"started": START, "ended": START + timedelta(seconds=65)},
        execution={"system": "cluster", "job_no": "4711"},
        results=[{"path": "out/größe.txt", "size": 2048}],
        dir="/data/j1",
    )
    message = about(ended, "ops")
    assert message.title == "[execd] blast finished"
    assert message.good
    assert message.body == (
        'Job "blast" finished.\n'
        "\n"
        "  job        j1\n"
        "  owner      jane, project bio\n"
        "  ended      2026-11-20 16:01:05 UTC\n"
        "  ran        1m05s on node7\n"
        "  exit code  0\n"
        "  used       12s of processor time, 3G of memory\n"
        "  system     cluster, job 4711\n"
        "  directory  /data/j1\n"
        "\n"
        "Results (1, 2K in all):\n"
        "      2K  out/größe.txt\n"
        "\n"
        "-- \n"
        "execd, message j1-1-ops\n"
    )


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"exit": {"code": 137, "signal": "SIGKILL", "reason": "walltime"}}, "ended in error: walltime"),
        ({"exit": {"code": 139, "signal": "SIGSEGV", "reason": "signal"}}, "ended in error: SIGSEGV"),
        ({"exit": {"code": 3, "reason": "exit code"}}, "ended in error: exit code 3"),
        ({"error": {"kind": "no route", "message": "no route takes it"}}, "ended in error: no route"),
        ({}, "ended in error: unknown cause"),
        ({"status": "killed"}, "was killed"),
    ],
)
def test_the_subject_says_how_it_ended(fields: dict[str, Any], ending: str) -> None:
    message = about(job(**{"status": "error", **fields}), "ops")
    assert message.title == f"[execd] blast {ending}"
    assert not message.good


def test_a_failed_job_shows_its_error_and_the_end_of_its_stderr(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_text("".join(f"line {number}\n" for number in range(100)))
    error = {"kind": "exit code", "message": "its command failed"}
    body = about(job(status="error", exit={"code": 3}, error=error, dir=str(tmp_path)), "ops").body
    assert "  error      its command failed\n" in body
    assert "The end of its stderr:\n  line 80\n" in body
    assert "  line 99\n" in body


def test_a_finished_job_does_not_show_its_stderr(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_text("a warning\n")
    assert "a warning" not in about(job(dir=str(tmp_path)), "ops").body


@pytest.mark.parametrize("name", ["a\r\nBcc: victim@example.org", "a\nb\x00"[:3], "a\u2028b", "a\x1b[2Jb", " a\t b ", "x" * 5000])
def test_a_name_stays_within_its_line(name: str) -> None:
    message = about(job(name=name, owner=name, project=name, status="error", error={"kind": name, "message": name}), "ops")
    assert message.title.isprintable()
    assert len(message.title) < 250
    assert all(line.isprintable() for line in message.body.split("\n"))
    assert not any(line.startswith("Bcc") for line in message.body.split("\n"))


def test_a_name_of_nothing_visible_becomes_the_id() -> None:
    assert about(job(name="\u200b\n"), "ops").title == "[execd] j1 finished"


def test_headers_are_plain_ascii_whatever_the_id() -> None:
    headers = about(job(_id="ü\r\nX: y"), "höhe\r\n").headers
    assert all(value.isascii() and value.isprintable() for value in headers.values())


def test_each_attempt_and_target_has_a_key_of_its_own_and_a_copy_has_the_same() -> None:
    keys = [about(job(attempt=attempt), target).headers["X-Execd-Key"] for attempt in (1, 2) for target in ("a", "b", "b")]
    assert len(set(keys)) == 4
    assert keys[1] == keys[2]


def test_many_results_are_cut() -> None:
    body = about(job(results=[{"path": f"r{number}", "size": 1} for number in range(100)]), "ops").body
    assert "Results (100, 100 in all):" in body
    assert "and 70 more" in body
    assert len(body.splitlines()) < 50


def test_a_long_stderr_is_read_from_its_end_only(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("wb") as file:
        file.seek(5 << 30)  # sparse
        file.write(b"\nthe last words\n")
    assert last_lines(path)[-1] == "the last words"


def test_what_is_no_text_is_shown_leniently(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    path.write_bytes(b"\xff\xfe\x1b[31mred\x1b[0m\tx\r\n 10%\r 99%\rdone \x07\n")
    assert last_lines(path) == ["��red    x", "done �"]


def test_one_endless_line_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_text("x" * 100_000)
    assert sum(map(len, last_lines(tmp_path / "stderr"))) <= 8192


def test_a_link_a_pipe_or_nothing_in_place_of_stderr_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "empty").touch()
    for name in ("link", "pipe", "directory", "empty", "nothing"):
        assert last_lines(tmp_path / name) == []
