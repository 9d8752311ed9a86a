"""The quickstart, from a clone whose path has blanks in it, with the installation."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.engines import ROOT, end_processes, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SHIPPED = (
    "README.rst",
    "bin",
    "conf",
    "docs",
    "execution_engine",
    "execution_systems",
    "pyproject.toml",
    "routing_rules",
    "setup.cfg",
)
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "_build", "*.egg-info")
ODD = {
    "PYTHONPATH": "/nowhere",
    "PIP_TARGET": "/nowhere",
    "PIP_USER": "1",
    "PYTHONSTARTUP": "/nowhere",
    "EXECD_CONFIG": "/nowhere",
}


class Clone:
    """A copy of what the repository ships, and a temporary directory for what it runs."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "a clone"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        for name in SHIPPED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.root / name, ignore=NOT_SHIPPED)
            else:
                self.root.mkdir(exist_ok=True)
                shutil.copy2(source, self.root / name)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **ODD, "TMPDIR": str(self.temporary)}

    def start(self) -> subprocess.Popen[str]:
        command = [str(self.root / "bin/quickstart")]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def quickstart(self) -> str:
        """Runs it to its end, and returns what it printed."""
        process = self.start()
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        return out

    def pid_files(self) -> list[Path]:
        return list(self.temporary.glob("*/run/execd.pid"))

    def running_jobs(self) -> list[Path]:
        """The start markers of jobs of engines that run."""
        return [marker for pid_file in self.pid_files() for marker in pid_file.parents[1].glob("jobs/*/*/*/.execd/started")]


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    directory = Path(mkdtemp(prefix="execd-"))
    yield Clone(directory)
    end_processes(directory)
    shutil.rmtree(directory)


def test_it_installs_and_runs_the_sample_jobs_from_a_path_with_blanks(clone):
    said = clone.quickstart()
    assert "jobs ended as they should" in said
    for word in ("sequence statistics", "statistics.tsv", "SIGKILL", "walltime", "exit code"):
        assert word in said
    assert clone.pid_files() == []


def test_it_works_twice_in_a_row_and_installs_once(clone):
    clone.quickstart()
    stamp = clone.root / ".venv/made-for"
    before = stamp.stat().st_mtime_ns
    assert "jobs ended as they should" in clone.quickstart()
    assert stamp.stat().st_mtime_ns == before


def test_two_at_the_same_time_do_not_disturb_each_other(clone):
    both = [clone.start(), clone.start()]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said


def test_ctrl_c_ends_its_jobs_and_its_engine(clone):
    process = clone.start()
    until(clone.running_jobs, "a job runs", timeout=200)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, out + err
    assert clone.pid_files() == []


def test_it_names_the_package_that_is_missing_where_python_has_no_venv(clone, tmp_path):
    for name in ("sh", "cat", "dirname", "flock"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        [str(clone.root / "bin/make-venv"), str(tmp_path / "venv")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install python3 python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_it_says_so_where_no_python_is_new_enough(clone, tmp_path):
    for name in ("sh", "cat", "dirname", "flock"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [str(clone.root / "bin/make-venv"), str(tmp_path / "venv")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def test_an_environment_without_a_directory_is_refused_with_the_usage() -> None:
    done = subprocess.run([str(ROOT / "bin/make-venv")], capture_output=True, text=True, check=False)
    assert (done.returncode != 0, "bin/make-venv DIRECTORY" in done.stderr) == (True, True)
