"""Peers that keep nothing but files, if that: `xargs` with nothing around the job, `xargs` with a wrapper, GNU parallel."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine import temporary_directory
from benchmarks.peers import Missing, Race

_WRAPPER = Path(__file__).with_name("wrapper.sh")


@contextmanager
def xargs(slots: int) -> Iterator[Race]:
    """Nothing but the processes."""

    def race(jobs: int) -> float:
        return _seconds(["xargs", f"-P{slots}", "-n1", "true"], jobs)

    yield race


@contextmanager
def xargs_wrapper(slots: int, place: Path | None) -> Iterator[Race]:
    """Each job a directory below `place`, with its script, stdout, stderr and exit code: no database, nothing durable."""

    def race(jobs: int) -> float:
        with temporary_directory(place) as directory:
            seconds = _seconds(["xargs", f"-P{slots}", "-n1", "sh", str(_WRAPPER), str(directory)], jobs)
            ended = sum(1 for _ in directory.glob("*/exit"))
        if ended != jobs:
            raise RuntimeError(f"{ended} of {jobs} jobs ended under xargs")
        return seconds

    yield race


@contextmanager
def parallel(slots: int, place: Path | None) -> Iterator[Race]:
    """GNU parallel with its job log, and a file for each stdout and stderr."""
    if shutil.which("parallel") is None:
        raise Missing("GNU parallel: apt-get install parallel")

    def race(jobs: int) -> float:
        with temporary_directory(place) as directory:
            files = ["--joblog", str(directory / "log"), "--results", str(directory / "results")]
            return _seconds(["parallel", f"-j{slots}", *files, "true"], jobs)

    yield race


def _seconds(command: Sequence[str], jobs: int) -> float:
    """How long a command takes that gets the jobs' numbers on its stdin."""
    numbers = "".join(f"{number}\n" for number in range(jobs))
    begin = time.perf_counter()
    subprocess.run(command, input=numbers, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return time.perf_counter() - begin
