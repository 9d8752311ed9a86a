"""A call into a C library that does not return."""

from __future__ import annotations

import os
import subprocess
import sys

from execution_engine.engine.fork_server import python_path

HANGS = """
import ctypes
from execution_engine.systems.deadline import Deadline
deadline = Deadline("cluster", 0.2)
with deadline:
    pass
with deadline:
    ctypes.CDLL(None).sleep({seconds})
print("returned")
"""


def run(seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANGS.format(seconds=seconds)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_call_that_does_not_return_ends_the_process_as_an_outage_does() -> None:
    done = run(60)
    assert (done.returncode, done.stdout) == (os.EX_TEMPFAIL, "")


def test_a_call_that_returns_leaves_the_process_alone() -> None:
    done = run(0)
    assert (done.returncode, done.stdout) == (0, "returned\n")
