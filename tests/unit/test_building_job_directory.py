"""The directory of a job, as a whole."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from execution_engine.building import build
from execution_engine.building.job_directory import directory_of
from execution_engine.config import Config
from execution_engine.errors import BuildError
from execution_engine.jobs.exit_record import JOB_SCRIPT, START_MARKER
from tests.support.building import a_job, configuration
from tests.support.clocks import HeldClock


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_daemons_user_can_enter_what_is_built(config: Config) -> None:
    before = os.umask(0)
    try:
        directory = build(a_job(inputs={"a/b": "x"}, command="true"), config)
    finally:
        os.umask(before)
    assert directory.parents[2] == config.jobs_dir
    directories = [config.jobs_dir, directory.parents[1], directory.parent, directory, directory / ".execd", directory / "a"]
    assert [mode(path) for path in directories] == [0o700] * 6
    assert sorted(path.name for path in (directory / ".execd").iterdir()) == ["build.log", "command", "job_script"]
    assert mode(directory / JOB_SCRIPT) == 0o700


def test_a_thousand_jobs_are_spread_over_the_shards(config: Config) -> None:
    shards: dict[Path, int] = {}
    for _ in range(2560):
        shard = directory_of(a_job(ObjectId()), config.jobs_dir).parent
        shards[shard] = shards.get(shard, 0) + 1
    assert len(shards) == 256
    assert max(shards.values()) < 40


@pytest.mark.parametrize(
    "ids", [[1, "1", 1.0], ["a/b", "a.b", "a b"], ["..", ".", "/"], ["x" * 100, "x" * 101], [ObjectId("0" * 24), "0" * 24]]
)
def test_different_ids_get_different_directories_below_their_project(config: Config, ids: list[Any]) -> None:
    directories = [build(a_job(job_id), config) for job_id in ids]
    assert len(set(directories)) == len(ids)
    assert {directory.resolve().parents[2] for directory in directories} == {config.jobs_dir}


def test_an_id_that_looks_like_the_digest_of_another_gets_a_directory_of_its_own(config: Config) -> None:
    first = directory_of(a_job("a b"), config.jobs_dir)
    assert directory_of(a_job(first.name), config.jobs_dir) != first


@pytest.mark.parametrize("project", ["..", "", "../../etc", "a/b", "Größe", "$(x)", "-", "x" * 300, "new\nline"])
def test_a_project_of_any_name_stays_below_the_jobs_directory(config: Config, project: str) -> None:
    directory = build(a_job(project=project), config)
    assert directory.resolve().parents[2] == config.jobs_dir.resolve()
    assert subprocess.run([directory / JOB_SCRIPT], env={}, timeout=20).returncode == 0


def test_an_interrupted_build_is_made_anew(config: Config) -> None:
    directory = build(a_job(inputs={"old": "x", "both": "old"}), config)
    (directory / JOB_SCRIPT).unlink()
    assert build(a_job(inputs={"both": "new"}), config) == directory
    assert sorted(path.name for path in directory.iterdir()) == [".execd", "both"]
    assert (directory / "both").read_text() == "new"
    assert "anew" in (directory / ".execd/build.log").read_text()


@pytest.mark.parametrize("marker", ["whole", "empty", "broken link"])
def test_a_directory_where_a_command_was_started_is_left_as_it_is(config: Config, marker: str) -> None:
    directory = build(a_job(inputs={"data": "x"}), config)
    if marker == "whole":
        subprocess.run([directory / JOB_SCRIPT], check=True, timeout=20)
    elif marker == "empty":
        (directory / START_MARKER).touch()
    else:
        (directory / START_MARKER).symlink_to("nowhere")
    before = {path: path.lstat().st_mtime_ns for path in directory.rglob("*")}
    with pytest.raises(BuildError, match=r"was started in .* not run twice"):
        build(a_job(), config)
    assert before == {path: path.lstat().st_mtime_ns for path in directory.rglob("*")}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_link_or_file_in_place_of_a_shared_directory_is_refused(config: Config, tmp_path: Path, level: int) -> None:
    directory = directory_of(a_job(), config.jobs_dir)
    place = [directory.parents[1], directory.parent, config.jobs_dir][level]
    place.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    if level == 2:
        place.write_text("a file")
    else:
        elsewhere.mkdir()
        place.symlink_to(elsewhere)
    fault = NotADirectoryError if level == 2 else BuildError
    with pytest.raises(fault, match="Not a directory" if level == 2 else "make it a plain directory"):
        build(a_job(), config)
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_shared_directory_that_others_could_change_is_not_used(config: Config, level: int, mode: int) -> None:
    """Whoever can rename a job's directory can have another script run in its place."""
    directory = directory_of(a_job(), config.jobs_dir)
    place = [directory.parents[1], directory.parent][level]
    place.mkdir(parents=True)
    place.chmod(mode)
    with pytest.raises(BuildError, match=f"others could change it .*mode {mode:04o}"):
        build(a_job(), config)
    assert not directory.exists()
    place.chmod(0o711)
    build(a_job(), config)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")
def test_a_shared_directory_of_another_user_is_not_used(config: Config) -> None:
    place = directory_of(a_job(), config.jobs_dir).parent
    place.mkdir(parents=True)
    os.chown(place, 1, 1)
    with pytest.raises(BuildError, match=r"others could change it \(user "):
        build(a_job(), config)


def test_the_jobs_directory_may_be_a_link(config: Config, tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    config.jobs_dir.symlink_to(tmp_path / "big-disk")
    assert build(a_job(), config).exists()


def test_a_jobs_directory_that_cannot_be_made_is_not_the_jobs_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        build(a_job(), configuration(tmp_path / "unmounted"))


@pytest.mark.parametrize("fields", [{"command": [""]}, {"env": {"1": "x"}}, {"inputs": {"..": "x"}}, {"outputs": ["/etc/*"]}])
def test_a_job_that_cannot_be_built_leaves_no_directory(config: Config, fields: dict[str, Any]) -> None:
    with pytest.raises(BuildError):
        build(a_job(**fields), config)
    assert not config.jobs_dir.exists()


def test_a_build_that_fails_half_way_says_so_in_its_log(config: Config) -> None:
    with pytest.raises(BuildError, match="URLs are not fetched"):
        build(a_job(inputs={"a": "x", "b": {"source": "http://localhost/"}}), config, HeldClock())
    log = (directory_of(a_job(), config.jobs_dir) / ".execd/build.log").read_text().splitlines()
    assert log[0].startswith("2026-11-20T16:04:05+00:00 job job1, attempt 1")
    assert log[2] == "input 'a': 1 bytes"
    assert log[3].startswith("failed: inputs: 'http://localhost/'")


def test_a_script_of_any_characters_is_stored(config: Config) -> None:
    directory = build(a_job(command="echo 'ü {x} %s'"), config)
    assert (directory / ".execd/command").read_text() == "echo 'ü {x} %s'\n"
    with pytest.raises(BuildError, match=r"U\+D800"):
        build(a_job("job2", command="echo \ud800"), config)
