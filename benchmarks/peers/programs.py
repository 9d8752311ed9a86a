"""Peers from PyPI, each in a virtual environment of its own, and in a process whose last word is the seconds of one race."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine import temporary_directory
from benchmarks.peers import Missing, Race

_HERE = Path(__file__).parent


@contextmanager
def hyperqueue(slots: int, place: Path | None, environments: Path) -> Iterator[Race]:
    """A server and a worker, a file for each stdout and stderr below `place`."""
    with _program("hyperqueue", ["hyperqueue"], slots, place, environments) as race:
        yield race


@contextmanager
def fireworks(place: Path | None, environments: Path) -> Iterator[Race]:
    """`rapidfire`, one job at a time, its directories below `place`, on a fake of MongoDB in its own process."""
    with _program("fireworks", ["fireworks", "mongomock", "setuptools"], 1, place, environments) as race:
        yield race


@contextmanager
def _program(name: str, packages: list[str], slots: int, place: Path | None, environments: Path) -> Iterator[Race]:
    python = environment(environments / name, packages)

    def race(jobs: int) -> float:
        with temporary_directory(place) as directory:
            command = [str(python), str(_HERE / f"{name}_race.py"), str(directory), str(slots), str(jobs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        return float(done.stdout.split()[-1])

    yield race


def environment(directory: Path, packages: list[str]) -> Path:
    """The Python of a virtual environment with these packages, which is made where there is none."""
    python = directory / "bin" / "python"
    if not python.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, capture_output=True, text=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run(install, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            python.unlink(missing_ok=True)
            raise Missing(f"{packages[0]} cannot be installed: {(error.stderr or error.stdout).strip()[-200:]}") from error
    return python
