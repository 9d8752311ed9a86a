"""The records that the keeper leaves in a job's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from execution_engine.systems.local_keeper.records import RECORDS, ProcessRecord, Records, UsageRecord, append, read
from tests.support.limits import full_after

PROCESS = ProcessRecord(pid=12, start=345, boot="b", attempt=1, keeper="1.2")
USAGE = UsageRecord(
    attempt=1, pid=12, start=345, code=None, reason="killed", cpu=None, memory=1, wall=0.5, started=1.0, ended=1.5
)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / ".execd").mkdir()
    return str(tmp_path)


def test_what_is_appended_is_read(directory: str) -> None:
    assert read(directory, 1) == Records(None, None)
    append(directory, PROCESS)
    assert read(directory, 1) == Records(PROCESS, None)
    append(directory, USAGE)
    assert read(directory, 1) == Records(PROCESS, USAGE)
    assert read(directory, 2) == Records(None, None)


def test_the_last_of_a_kind_counts(directory: str) -> None:
    append(directory, PROCESS)
    adopted = PROCESS._replace(keeper="3.4")
    append(directory, adopted)
    assert read(directory, 1).process == adopted


def test_a_record_for_which_there_is_no_room_leaves_nothing_behind(directory: str) -> None:
    append(directory, PROCESS)
    path = Path(directory, RECORDS)
    whole = path.read_bytes()
    with pytest.raises(OSError, match="No space left"), full_after(len(whole) + 10):
        append(directory, USAGE)
    assert path.read_bytes() == whole


def test_a_link_or_a_pipe_in_its_place_is_not_followed_and_does_not_block(directory: str, tmp_path: Path) -> None:
    path = Path(directory, RECORDS)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        append(directory, USAGE)
    assert elsewhere.read_bytes() == b""
    path.unlink()
    os.mkfifo(path)
    assert read(directory, 1) == Records(None, None)
    with pytest.raises(OSError, match="No such device"):
        append(directory, USAGE)
