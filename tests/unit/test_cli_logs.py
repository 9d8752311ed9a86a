"""`execd logs --follow` of a job whose document is large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from execution_engine.cli import logs
from execution_engine.jobs.status import Status


class _Client:
    """Of a job that runs for ten looks."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.read, self._looks = directory, 0, 0

    def statuses(self, ids: list[Any]) -> dict[Any, Status]:
        self._looks += 1
        with (self._directory / "stdout").open("a") as file:
            file.write(f"{self._looks}\n")
        return dict.fromkeys(ids, self._status())

    def get(self, job_id: Any) -> dict[str, Any]:
        self.read += 1
        return {"_id": job_id, "status": self._status().value, "dir": str(self._directory)}

    def _status(self) -> Status:
        return Status.RUNNING if self._looks < 10 else Status.FINISHED


def test_a_job_that_is_followed_is_read_whole_only_when_its_status_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "_FOLLOW_INTERVAL", 0.001)
    directory = tmp_path / "project" / "00" / "job"
    directory.mkdir(parents=True)
    client: Any = _Client(directory)
    logs._follow(client, 7, stderr=False, tail=None)
    assert capsys.readouterr().out.split() == [str(number) for number in range(1, 11)]
    assert client.read == 2
