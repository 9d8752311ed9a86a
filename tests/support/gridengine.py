"""A real Grid Engine cell for the tests: the one that tests/testbed/gridengine brings up, or one that the environment names.

EXECD_TEST_GRIDENGINE=1 takes the cell of SGE_ROOT, SGE_CELL, SGE_QMASTER_PORT and DRMAA_LIBRARY_PATH, with the commands that are
on the PATH.  Its qmaster is left alone: the tests of outages need the testbed's.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execution_engine.systems.ogs import OGS
from tests.support.elsewhere import Elsewhere
from tests.support.engine_fixtures import short_directory
from tests.support.engines import Engine, running_engine
from tests.support.job_sites import JobSite

ROOT = Path(__file__).resolve().parents[2]
TESTBED = ROOT / "tests" / "testbed" / "gridengine"
MISSING = (
    "no Grid Engine cell: run tests/testbed/gridengine up (as root, on Debian 12), or set EXECD_TEST_GRIDENGINE=1 and SGE_ROOT"
)
FOREIGN = "the qmaster is not the tests' own: unset EXECD_TEST_GRIDENGINE and run tests/testbed/gridengine up"


@dataclass(frozen=True)
class Cell:
    """A cell that answers."""

    environment: dict[str, str]
    commands: Path
    own: bool
    """it is the testbed's, so that its qmaster can be stopped"""

    @property
    def options(self) -> dict[str, Any]:
        """The keys of an execution system in the configuration that runs jobs here."""
        environment = self.environment
        port = {"qmaster_port": int(environment["SGE_QMASTER_PORT"])} if "SGE_QMASTER_PORT" in environment else {}
        return {
            "root": environment.get("SGE_ROOT", "/var/lib/gridengine"),
            "cell": environment.get("SGE_CELL", "default"),
            **port,
            "drmaa_library": environment["DRMAA_LIBRARY_PATH"],
            "commands": str(self.commands),
        }

    def settings(self, **options: Any) -> dict[str, Any]:
        """The sections of an engine's configuration that gives all jobs to this cell, and is quick to notice."""
        return {
            "execution_systems": {"cluster": {"class": "OGS", **self.options, **options}},
            "routes": [{"name": "all", "execution_system": "cluster"}],
            "engine": {
                "grace": "2s",
                "status_interval": {"min": "200ms", "max": "1s"},
                "retry_delay": {"min": "200ms", "max": "1s"},
            },
        }

    def run(self, *words: str) -> str:
        """Runs a command of Grid Engine, and returns what it prints."""
        done = subprocess.run(
            [str(self.commands / words[0]), *words[1:]],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def queued(self, name: str) -> list[str]:
        """The native ids of the jobs of this name that are in the queue."""
        listing = subprocess.run(
            [str(self.commands / "qstat"), "-j", name], env={**os.environ, **self.environment}, capture_output=True, text=True
        ).stdout
        return [line.split()[1] for line in listing.splitlines() if line.startswith("job_number:")]

    @contextmanager
    def configured(self, scratch: Path, **changes: str) -> Iterator[None]:
        """The cell with another global configuration, for a while."""
        file = scratch / "global"  # qconf takes the file's name for the configuration's
        before = self.run("qconf", "-sconf").replace("\\\n", " ")
        kept = [line for line in before.splitlines() if line.partition(" ")[0] not in changes]
        file.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in changes.items()), ""]))
        self.run("qconf", "-Mconf", str(file))
        try:
            yield
        finally:
            file.write_text(before)
            self.run("qconf", "-Mconf", str(file))

    def testbed(self, *words: str) -> None:
        """Calls the testbed's script, for an outage."""
        subprocess.run([str(TESTBED), *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)

    def qmaster(self) -> int:
        """The process id of the testbed's qmaster."""
        return int(Path("/var/spool/gridengine/qmaster/qmaster.pid").read_text())


def _find() -> Cell | None:
    if os.environ.get("EXECD_TEST_GRIDENGINE") == "1":
        names = ("SGE_ROOT", "SGE_CELL", "SGE_QMASTER_PORT", "DRMAA_LIBRARY_PATH")
        qstat = shutil.which("qstat")
        given = {name: os.environ[name] for name in names if name in os.environ}
        return Cell(given, Path(qstat).parent, own=False) if qstat and "DRMAA_LIBRARY_PATH" in given else None
    status = subprocess.run([str(TESTBED), "status"], capture_output=True, text=True, timeout=60, check=False)
    if status.returncode != 0:
        return None
    lines = (shlex.split(line.removeprefix("export "))[0] for line in status.stdout.splitlines())
    return Cell(dict(line.split("=", 1) for line in lines), Path("/usr/lib/gridengine"), own=True)


@contextmanager
def _reserved(cell: Cell, how: int) -> Iterator[None]:
    """Keeps other test runs on this machine from stopping the qmaster meanwhile, or, exclusively, from using it."""
    with Path(cell.options["root"], cell.options["cell"], "common", "settings.sh").open("rb") as file:
        fcntl.flock(file, how)
        yield


@pytest.fixture(scope="session")
def gridengine_cell() -> Cell:
    """A cell that answers; without one the test is left out, or fails if EXECD_TEST_REQUIRE names gridengine."""
    cell = _find()
    if cell is not None:
        return cell
    if "gridengine" in os.environ.get("EXECD_TEST_REQUIRE", "").split(","):
        pytest.fail(f"EXECD_TEST_REQUIRE=gridengine, but {MISSING}")
    pytest.skip(MISSING)


@pytest.fixture
def gridengine(gridengine_cell: Cell) -> Iterator[Cell]:
    """A cell for jobs."""
    with _reserved(gridengine_cell, fcntl.LOCK_SH):
        yield gridengine_cell


@pytest.fixture(scope="module")
def gridengine_engine(gridengine_cell: Cell) -> Iterator[Engine]:
    """A running engine that gives its jobs to the cell, one for all tests of a module that leave it as they found it."""
    with (
        _reserved(gridengine_cell, fcntl.LOCK_SH),
        short_directory() as directory,
        running_engine(directory / "engine", **gridengine_cell.settings()) as engine,
    ):
        yield engine


@pytest.fixture
def own_gridengine(gridengine_cell: Cell) -> Iterator[Cell]:
    """A cell whose qmaster the test may stop; it answers again afterwards."""
    if not gridengine_cell.own:
        pytest.skip(FOREIGN)
    with _reserved(gridengine_cell, fcntl.LOCK_EX):
        yield gridengine_cell
        gridengine_cell.testbed("up")


def gridengine_site(cell: Cell, directory: Path) -> Iterator[JobSite]:
    """A place for jobs on the cell, none of which is left there afterwards."""
    options = OGS.Options.model_validate(cell.options)
    site = JobSite(directory, lambda context: Elsewhere(OGS, context, options))
    yield site
    cell.run("qdel", f"{site.names}-*")
    site.end()
