"""The audit after a storm finds what it is there to find."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import wrong, wrong_message
from tests.chaos.jobs import SORTS, Given

BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
LIFE = ("building", "to be submitted", "submitting", "running", "finished")


def given(directory: Path, runs: int = 1) -> Given:
    """A job that writes a file, whose command ran so often."""
    file = directory / str(random.random())
    file.write_text("run\n" * runs)
    return Given(SORTS["writes"], "writes", file, {})


def document(**changed: Any) -> dict[str, Any]:
    """The same job as it should be in the end, but for what is changed."""
    times = {
        name: BEGAN + timedelta(seconds=at) for at, name in enumerate(("created", "built", "submitted", "ended", "notified"))
    }
    history = [{"status": status, "at": BEGAN + timedelta(seconds=at)} for at, status in enumerate(LIFE)]
    good = {
        "_id": "x",
        "status": "finished",
        "exit": {"code": 0},
        "results": [{"path": "out", "size": 7}],
        "lease": {"owner": None, "until": None},
        "history": history,
        "times": times,
        "due_at": None,
    }
    return {**good, **changed}


def steps(*statuses: str, seconds: float = 1.0) -> list[dict[str, Any]]:
    return [{"status": status, "at": BEGAN + number * timedelta(seconds=seconds)} for number, status in enumerate(statuses)]


def test_a_job_as_it_should_be_is_not_found_fault_with(tmp_path: Path) -> None:
    assert list(wrong(given(tmp_path), document())) == []
    assert list(wrong_message(given(tmp_path), document(), ["finished"])) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "running", "history": steps(*LIFE[:-1])}, "left running"),
        ({"status": "error", "history": steps(*LIFE[:-1], "error")}, "should be finished, not error"),
        ({"exit": {"code": 1}}, "exit code should be 0"),
        ({"results": []}, "results should be"),
        ({"lease": {"owner": "boot/submit-1", "until": None}}, "holds its lease"),
        ({"history": steps("building", "running", "finished")}, "goes from building to running"),
        ({"history": steps(*LIFE, "running")}, "goes from finished to running"),
        ({"history": steps(*LIFE, seconds=-1.0)}, "back in time"),
        ({"history": steps(*LIFE[:-1])}, "ends with running"),
        ({"history": steps(*LIFE[:-1], "error", "to be built", *LIFE)}, "not as many attempts"),
        ({"times": {"created": BEGAN, "built": BEGAN - timedelta(seconds=2)}}, "built before it was created"),
    ],
)
def test_what_is_wrong_with_a_job_is_told(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    assert words in "; ".join(wrong(given(tmp_path), document(**changed)))


@pytest.mark.parametrize("runs", [0, 2])
def test_a_command_that_did_not_run_exactly_once_is_told(tmp_path: Path, runs: int) -> None:
    assert f"ran {runs} times" in "; ".join(wrong(given(tmp_path, runs), document()))


@pytest.mark.parametrize(("told", "words"), [([], "not told"), (["finished", "error"], "finished and error")])
def test_a_message_that_is_missing_or_untrue_is_told(tmp_path: Path, told: list[str], words: str) -> None:
    assert words in "; ".join(wrong_message(given(tmp_path), document(), told))
