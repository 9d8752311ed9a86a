"""Reading what a job script left, and what a job put in its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from execution_engine.jobs.exit_record import (
    COPIES,
    RECORD,
    START_MARKER,
    ExitRecord,
    StartMarker,
    read_copies,
    read_exit_record,
    read_start_marker,
)

TIMES = "0m0.010s 0m0.020s\n1m2.500s 0m0.250s\n"
LINE = "execd-exit-1 code=143 attempt=2 host=n1 end\n"
MARKER = "execd-start-1 attempt=2 pid=4711 host=n1 end\n"
COPY = "execd-copy-1 attempt=2 pid=4712 host=n2 end\n"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / ".execd").mkdir()
    return tmp_path


def put(path: Path, content: str, at: float = 2000.0) -> None:
    path.write_text(content)
    os.utime(path, (at, at))


def test_a_whole_record_is_read(job: Path) -> None:
    put(job / START_MARKER, MARKER, at=1936.5)
    put(job / RECORD, TIMES + LINE)
    record = read_exit_record(job)
    assert record == ExitRecord(143, 2, "n1", started=1936.5, ended=2000.0, wall=63.5, cpu=62.75)
    assert record.signal == "SIGTERM"


def test_a_job_that_removed_its_start_marker_has_no_start(job: Path) -> None:
    put(job / RECORD, LINE)
    assert read_exit_record(job) == ExitRecord(143, 2, "n1", started=None, ended=2000.0, wall=None, cpu=None)


def test_a_clock_that_was_set_back_makes_no_negative_time(job: Path) -> None:
    put(job / START_MARKER, MARKER, at=2001.0)
    put(job / RECORD, LINE)
    assert read_exit_record(job) == ExitRecord(143, 2, "n1", started=2000.0, ended=2000.0, wall=0.0, cpu=None)


@pytest.mark.parametrize("length", range(len(TIMES + LINE)))
def test_a_record_without_its_end_counts_as_absent(job: Path, length: int) -> None:
    put(job / RECORD, (TIMES + LINE)[:length])
    assert read_exit_record(job) is None


def test_a_node_that_tells_little_still_gives_a_record(job: Path) -> None:
    put(job / START_MARKER, "execd-start-1 attempt=1 pid=7 host= end\n", at=1990.0)
    put(job / RECORD, "execd-exit-1 code=0 attempt=1 host= end\n")
    assert read_exit_record(job) == ExitRecord(0, 1, "", started=1990.0, ended=2000.0, wall=10.0, cpu=None)
    assert read_start_marker(job) == StartMarker(1, 7, "", 1990.0)


def test_a_decimal_comma_is_understood(job: Path) -> None:
    put(job / RECORD, TIMES.replace(".", ",") + LINE)
    record = read_exit_record(job)
    assert record is not None
    assert record.cpu == 62.75


@pytest.mark.parametrize("code", ["", "-1", "256", "99999999999999999999", "x", "1e3", "\u0663"])
def test_a_code_that_no_shell_writes_is_no_record(job: Path, code: str) -> None:
    put(job / RECORD, TIMES + LINE.replace("143", code))
    assert read_exit_record(job) is None


def copies(job: Path) -> list[str] | None:
    return read_copies(job, 2) or None


@pytest.mark.parametrize(
    ("name", "line", "read"),
    [(RECORD, LINE, read_exit_record), (START_MARKER, MARKER, read_start_marker), (COPIES, COPY, copies)],
)
def test_whatever_a_job_puts_in_place_of_the_files_is_no_record_and_holds_nobody_up(
    job: Path, name: str, line: str, read: Callable[[Path], object]
) -> None:
    path = job / name
    assert read(job) is None
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, job)
        try:
            assert reading.result(timeout=5) is None
        finally:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # lets go of a reader that waits
    path.unlink()
    path.mkdir()
    assert read(job) is None
    path.rmdir()
    put(job / "elsewhere", line)
    path.symlink_to(job / "elsewhere")
    assert read(job) is None
    path.unlink()
    path.write_bytes(b"\xff\x00" * 100_000)
    assert read(job) is None
    put(path, line)
    assert read(job) is not None


def test_no_more_of_the_copies_is_read_than_a_few(job: Path) -> None:
    put(job / COPIES, COPY * 100_000)
    assert len(read_copies(job, 2)) < 100
    assert read_copies(job, 1) == []


def test_a_whole_start_marker_is_read(job: Path) -> None:
    put(job / START_MARKER, MARKER)
    assert read_start_marker(job) == StartMarker(attempt=2, pid=4711, host="n1", at=2000.0)
    put(job / START_MARKER, MARKER.removesuffix("end\n"))
    assert read_start_marker(job) is None
