"""What the tests say of those that were left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines import ROOT

SOME_LEFT_OUT = """
import pytest

def test_one(): pass

@pytest.mark.parametrize("number", [1, 2])
def test_two(number): pytest.skip("no such server: apt-get install server")

@pytest.mark.xfail(strict=True)
def test_three(): assert False
"""
A_FILE_LEFT_OUT = 'import pytest\npytest.skip("no such library: pip install it", allow_module_level=True)\n'
ALL_RUN = "def test_one(): pass\n"


def _pytest(directory: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_some.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EXECD_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.left_out", "-p", "no:cacheprovider", str(directory)],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_left_out_is_said_with_how_to_enable_it(tmp_path):
    done = _pytest(tmp_path, SOME_LEFT_OUT)
    assert done.returncode == pytest.ExitCode.OK
    assert "2 tests: no such server\n    to enable: apt-get install server\n" in done.stdout


def test_a_whole_file_that_is_left_out_is_said_too(tmp_path):
    assert "1 test: no such library\n    to enable: pip install it" in _pytest(tmp_path, A_FILE_LEFT_OUT).stdout


def test_where_nothing_may_be_left_out_a_skip_fails_the_run_and_the_summary_is_still_the_last_line(tmp_path):
    done = _pytest(tmp_path, SOME_LEFT_OUT, EXECD_TEST_NOTHING_LEFT_OUT="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 tests were left out" in done.stdout
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout.splitlines()[-1]


def test_where_nothing_was_left_out_nothing_is_said_of_it(tmp_path):
    done = _pytest(tmp_path, ALL_RUN, EXECD_TEST_NOTHING_LEFT_OUT="1")
    assert done.returncode == pytest.ExitCode.OK
    assert "left out" not in done.stdout
