"""The house is in order: the checks that a reviewer would otherwise have to make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
LONGEST_FILE = 350


def _run(*words: str) -> None:
    """Runs a tool of the tests' environment in the checkout; its words are the failure's."""
    done = subprocess.run(
        [str(TOOLS / words[0]), *words[1:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def _tracked(*patterns: str) -> list[Path]:
    """The checkout's own files."""
    return [
        path
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if not {".venv", ".venv-test", "_build", "__pycache__", "build"} & set(path.relative_to(ROOT).parts)
    ]


def test_ruff_finds_nothing_to_mend():
    _run("ruff", "check", ".")


def test_all_code_is_formatted_by_ruff():
    _run("ruff", "format", "--check", ".")


def test_mypy_finds_the_types_right_in_strict_mode():
    _run("mypy")


def test_imports_go_down_only():
    _run("lint-imports", "--no-cache")


def test_no_source_file_is_longer_than_a_person_can_hold_in_mind():
    lengths = {path: len(path.read_text().splitlines()) for path in _tracked("execution_engine/**/*.py")}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_every_module_says_in_its_docstring_what_it_is_for():
    silent = [path for path in _tracked("execution_engine/**/*.py") if not path.read_text().lstrip().startswith(('"""', 'r"""'))]
    assert silent == []


def test_every_script_is_of_a_syntax_that_its_shell_understands():
    for script in (*_tracked("bin/*"), ROOT / ".ci/run", ROOT / "tests/testbed/gridengine"):
        first = script.read_text().splitlines()[0]
        shell = {"#!/bin/sh": "sh", "#!/usr/bin/env bash": "bash"}.get(first)
        if shell is not None:
            subprocess.run([shell, "-n", str(script)], check=True)
        assert script.stat().st_mode & 0o111, f"{script} is not executable"


def test_the_systemd_unit_is_well_formed(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    unit = tmp_path / "execd.service"
    text = (ROOT / "conf/execd.service").read_text()
    unit.write_text(text.replace("/opt/execd/bin/execd", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    about_us = [line for line in done.stdout.splitlines() if "execd" in line]
    assert about_us == []


def test_the_documented_python_is_the_one_that_is_required():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options"]["python_requires"] == ">=3.11"
    assert "Python 3.11" in (ROOT / "README.rst").read_text()
