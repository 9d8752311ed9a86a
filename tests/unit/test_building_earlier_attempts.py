"""What earlier attempts left is kept when a job's directory is made for the next one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from execution_engine.building import build, earlier_attempts
from execution_engine.config import Config
from execution_engine.errors import BuildError
from execution_engine.jobs.exit_record import JOB_SCRIPT, RECORD, START_MARKER, read_exit_record
from tests.support.building import a_job, configuration

WRITES = 'echo "attempt $EXECD_ATTEMPT" | tee result'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration(tmp_path)


def run(config: Config, attempt: int, command: str = WRITES) -> Path:
    """Builds this attempt and runs its script to the end; the directory."""
    directory = build(a_job(command=command, attempt=attempt), config)
    subprocess.run([directory / JOB_SCRIPT], check=True, timeout=20)
    return directory


def kept(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / ".execd").glob("attempt-*"))


def test_each_attempt_finds_an_empty_directory_and_keeps_all_before_it(config: Config) -> None:
    for attempt in (1, 2, 3):
        directory = run(config, attempt)
    assert sorted(path.name for path in directory.iterdir()) == [".execd", "result", "stderr", "stdout"]
    assert kept(directory) == ["attempt-1", "attempt-2"]
    for attempt in (1, 2):
        before = earlier_attempts.directory_of_attempt(directory, attempt)
        assert {(before / name).read_text() for name in ("stdout", "result")} == {f"attempt {attempt}\n"}
        record = read_exit_record(before)
        assert record is not None
        assert record.attempt == attempt
        assert kept(before) == []
    assert "attempt 2 is kept in .execd/attempt-2" in (directory / ".execd/build.log").read_text()


def test_an_attempt_that_did_away_with_its_directory_is_not_built_again(config: Config) -> None:
    """Its end is told beside the directory: another job of the same id would be taken to have ended so, or it would run twice."""
    run(config, 1, 'rm -r "$EXECD_JOB_DIR"')
    with pytest.raises(BuildError, match="not run twice"):
        build(a_job(), config)
    assert run(config, 2).is_dir()


def test_an_attempt_that_was_started_is_not_built_again(config: Config) -> None:
    directory = run(config, 2)
    for attempt in (1, 2):
        with pytest.raises(BuildError, match="not run twice"):
            build(a_job(attempt=attempt), config)
    (directory / START_MARKER).write_text("cut sho")
    with pytest.raises(BuildError, match="not run twice"):
        build(a_job(attempt=2), config)


@pytest.mark.parametrize("marker", ["", "cut sho"])
def test_an_earlier_attempt_whose_marker_cannot_be_read_is_kept_all_the_same(config: Config, marker: str) -> None:
    directory = build(a_job(), config)
    (directory / START_MARKER).write_text(marker)
    assert run(config, 2) == directory
    assert (directory / ".execd/attempt-1" / START_MARKER).read_text() == marker


def test_an_interrupted_build_of_a_later_attempt_is_made_anew_without_touching_the_earlier_one(config: Config) -> None:
    run(config, 1)
    directory = build(a_job(attempt=2, inputs={"d/a": "old", "b": "old"}), config)
    assert build(a_job(attempt=2, inputs={"b": "new"}), config) == directory
    assert sorted(path.name for path in directory.iterdir()) == [".execd", "b"]
    assert (directory / "b").read_text() == "new"
    assert (directory / ".execd/attempt-1/result").read_text() == "attempt 1\n"


@pytest.mark.parametrize("step", range(5))
def test_a_crash_while_the_directories_are_moved_loses_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run(config, 1)
    directory = run(config, 2)
    with monkeypatch.context() as fault:
        die_before_step(step, fault)
        with pytest.raises(InterruptedError):
            build(a_job(command=WRITES, attempt=3), config)
    assert run(config, 3) == directory
    assert kept(directory) == ["attempt-1", "attempt-2"]
    for attempt in (1, 2):
        before = earlier_attempts.directory_of_attempt(directory, attempt)
        assert (before / "result").read_text() == f"attempt {attempt}\n"
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def die_before_step(number: int, fault: pytest.MonkeyPatch) -> None:
    """Two changes of mode and three renames, and the one of this number does not come to pass."""
    steps = count()

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def attempted(*arguments: Any, **more: Any) -> Any:
            if next(steps) == number:
                raise InterruptedError(step.__name__)
            return step(*arguments, **more)

        return attempted

    fault.setattr(os, "chmod", dying(os.chmod))
    fault.setattr(os, "rename", dying(os.rename))


def test_a_directory_that_is_gone_leaves_an_empty_attempt(config: Config) -> None:
    directory = build(a_job(attempt=4), config)
    assert kept(directory) == ["attempt-3"]
    assert list((directory / ".execd/attempt-3").iterdir()) == []


@pytest.mark.parametrize(
    "closes", ["chmod -R a-w . .execd", "chmod 0 .execd .", "rm .execd/started; chmod 0 .execd", "chmod 0 ."]
)
def test_a_job_that_closed_its_directory_is_tried_again(config: Config, closes: str) -> None:
    directory = run(config, 1, f"{WRITES}; {closes}")
    assert run(config, 2) == directory
    assert (directory / ".execd/attempt-1/result").read_text() == "attempt 1\n"


@pytest.mark.parametrize("tidy", ["rm -r .execd", "rm -r .execd; ln -s / .execd", "rm -r .execd; touch .execd"])
def test_a_job_that_spoilt_the_engines_own_files_is_tried_again(config: Config, tidy: str) -> None:
    directory = build(a_job(command=f"{WRITES}; {tidy}"), config)
    subprocess.run([directory / JOB_SCRIPT], check=False, timeout=20, stderr=subprocess.DEVNULL)
    assert run(config, 2) == directory
    assert (directory / ".execd/attempt-1/result").read_text() == "attempt 1\n"


def test_what_still_runs_of_an_earlier_attempt_works_on_in_its_own_directory(config: Config) -> None:
    directory = build(a_job(command="read line <pipe; echo late >result; echo late"), config)
    os.mkfifo(directory / "pipe")
    late = subprocess.Popen([directory / JOB_SCRIPT])
    with (directory / "pipe").open("w") as pipe:
        run(config, 2)
        pipe.write("go on\n")
    assert late.wait(20) == 0
    before = directory / ".execd/attempt-1"
    assert ((before / "result").read_text(), (before / "stdout").read_text()) == ("late\n", "late\n")
    assert (directory / "result").read_text() == "attempt 2\n"
    assert [read_exit_record(place).attempt for place in (before, directory)] == [1, 2]  # type: ignore[union-attr]
    assert (before / RECORD).exists()


@pytest.mark.parametrize("place", ["", ".execd", ".execd/attempt-1"])
def test_a_link_that_a_job_put_in_the_place_of_its_directory_leads_nowhere(config: Config, tmp_path: Path, place: str) -> None:
    run(config, 1)
    directory = run(config, 2)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".execd").mkdir(parents=True)
    (elsewhere / ".execd/attempt-9").touch()
    (elsewhere / ".execd").chmod(0o500)
    before = [(path, path.lstat().st_mode) for path in sorted(elsewhere.rglob("*"))]
    (directory / place).rename(tmp_path / "moved")
    (directory / place).symlink_to(elsewhere)
    build(a_job(command=WRITES, attempt=3), config)
    assert [(path, path.lstat().st_mode) for path in sorted(elsewhere.rglob("*"))] == before
    assert not directory.is_symlink()
