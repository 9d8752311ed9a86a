"""A Torque server for the tests: the stand-in, or a real one that the environment names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from execution_engine.systems.torque import Torque
from tests.support.elsewhere import Elsewhere
from tests.support.engine_fixtures import short_directory
from tests.support.engines import Engine, running_engine
from tests.support.job_sites import JobSite
from tests.support.real_torque import REAL, RealTorque
from tests.support.torque_stand_in import SOURCES, StandIn

NO_COMPILER = "no C compiler for the stand-in of Torque: apt-get install gcc libc6-dev"


@pytest.fixture(scope="session")
def torque_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's DRMAA library; without a compiler the test is left out."""
    if REAL:
        return Path(os.environ["DRMAA_LIBRARY_PATH"])
    if shutil.which("cc") is None:
        pytest.skip(NO_COMPILER)
    library = tmp_path_factory.mktemp("torque") / "libdrmaa.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(SOURCES / "drmaa.c")], check=True)
    return library


@contextmanager
def _server(library: Path) -> Iterator[StandIn]:
    with short_directory() as directory:
        server = (RealTorque if REAL else StandIn)(directory / "torque", library)
        server.make()
        try:
            yield server
        finally:
            server.end()


@pytest.fixture
def torque(torque_library: Path) -> Iterator[StandIn]:
    """A server that answers."""
    with _server(torque_library) as server:
        yield server


@pytest.fixture(scope="module")
def shared_torque(torque_library: Path) -> Iterator[StandIn]:
    """As `torque`, one for all tests of a module that leave it as they found it."""
    with _server(torque_library) as server:
        yield server


@pytest.fixture(scope="module")
def torque_engine(shared_torque: StandIn) -> Iterator[Engine]:
    """A running engine that gives its jobs to `shared_torque`, for such tests."""
    with short_directory() as directory, running_engine(directory / "engine", **shared_torque.settings()) as engine:
        yield engine


def torque_site(options: dict[str, Any], directory: Path) -> Iterator[JobSite]:
    """A place for jobs on a server, none of which is left there afterwards."""
    valid = Torque.Options.model_validate(options)
    site = JobSite(directory, lambda context: Elsewhere(Torque, context, valid))
    yield site
    system = Torque(site.context, valid)
    for job in site.jobs:
        system.kill(job)
    site.end()
