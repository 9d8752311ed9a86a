"""A short storm on each kind of database; `python -m tests.chaos` raises longer ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("EXECD_TEST_SEED", random.randrange(1_000_000)))


def storm(*arguments: str, patience: float) -> None:
    """Runs one and fails with all that it says, the seed included, unless all was well after it."""
    command = [sys.executable, "-m", "tests.chaos", "--seed", str(SEED), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends its engines
            said, _ = process.communicate()
            said += f"\nnot done after {patience:g} s"
    assert process.returncode == 0, said


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engines", ["1", "2"])
def test_whatever_process_is_killed_nothing_is_lost_nothing_runs_twice_and_nothing_is_left_over(engines: str) -> None:
    storm("--rounds", "25", "--jobs", "200", "--engines", engines, patience=200)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.mongodb
@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["mongodb", "replica-set"])
def test_so_it_is_on_a_mongodb(mongodb_server, database: str) -> None:
    storm("--rounds", "12", "--jobs", "100", "--database", database, patience=250)
