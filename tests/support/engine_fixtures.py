"""Fixtures that give a test a real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engine, running_engine

MakeEngine = Callable[..., Engine]


TWO_SLOTS = {"here": {"class": "Local", "slots": 2}}


@contextmanager
def short_directory() -> Iterator[Path]:
    """A temporary directory with a path short enough for unix sockets, whatever the name of the test."""
    directory = Path(tempfile.mkdtemp(prefix="execd-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


@pytest.fixture
def make_engine(short_dir: Path) -> Iterator[MakeEngine]:
    """`make_engine(**settings)` gives an engine that is not started yet; nothing of it is left after the test."""
    with ExitStack() as stack:

        def make(name: str = "engine", **settings: Any) -> Engine:
            engine = Engine(short_dir / name, **settings)
            stack.callback(engine.end)
            return engine

        yield make


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """A running engine with the default configuration, but two slots whatever the machine."""
    engine = make_engine(execution_systems=TWO_SLOTS)
    engine.start()
    return engine


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[Engine]:
    """As `engine`, one for all tests of a module that leave it as they found it."""
    with short_directory() as directory, running_engine(directory / "engine", execution_systems=TWO_SLOTS) as engine:
        yield engine


@pytest.fixture
def small_disk(short_dir: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    directory = short_dir / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system to fill: run bin/test as root")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)
