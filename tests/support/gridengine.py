"""A real Grid Engine cell for the tests: the one that tests/testbed/gridengine brings up, or one that the environment names.

EXECD_TEST_GRIDENGINE=1 takes the cell of SGE_ROOT, SGE_CELL, SGE_QMASTER_PORT and DRMAA_LIBRARY_PATH, with the commands that are
on the PATH.  Its qmaster is left alone: the tests of outages need the testbed's.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Account, Context, ExecutionSystem, Health, Started
from execution_engine.systems.ogs import OGS
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
def _reserved(how: int) -> Iterator[None]:
    """Keeps other test runs on this machine from stopping the qmaster meanwhile, or, exclusively, from using it."""
    with TESTBED.open("rb") as file:
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
    with _reserved(fcntl.LOCK_SH):
        yield gridengine_cell


@pytest.fixture(scope="module")
def gridengine_engine(gridengine_cell: Cell) -> Iterator[Engine]:
    """A running engine that gives its jobs to the cell, one for all tests of a module that leave it as they found it."""
    with (
        _reserved(fcntl.LOCK_SH),
        short_directory() as directory,
        running_engine(directory / "engine", **gridengine_cell.settings()) as engine,
    ):
        yield engine


@pytest.fixture
def own_gridengine(gridengine_cell: Cell) -> Iterator[Cell]:
    """A cell whose qmaster the test may stop; it answers again afterwards."""
    if not gridengine_cell.own:
        pytest.skip(FOREIGN)
    with _reserved(fcntl.LOCK_EX):
        yield gridengine_cell
        gridengine_cell.testbed("up")


class GridEngineElsewhere(ExecutionSystem):
    """The real system, in a process of its own that was started with its environment, as the engine's actors are."""

    def __init__(self, context: Context, options: Any) -> None:
        super().__init__(context, options)
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **OGS.environment(self.options)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._send((self.context, self.options))
        self._ask("boot")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate(pickle.dumps(("close", ())), timeout=30)

    def run(self, job: Job) -> str | Started:
        return self._ask("run", job)

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | Started | Exception]]:
        return self._ask("run_many", list(jobs))

    def get_status(self, job: Job) -> Status:
        return self._ask("get_status", job)

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        return self._ask("get_statuses", list(jobs))

    def find(self, job: Job) -> str | None:
        return self._ask("find", job)

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        return self._ask("account", job, record)

    def kill(self, job: Job) -> None:
        self._ask("kill", job)

    def hold(self, job: Job) -> None:
        self._ask("hold", job)

    def release(self, job: Job) -> None:
        self._ask("release", job)

    def suspend(self, job: Job) -> None:
        self._ask("suspend", job)

    def resume(self, job: Job) -> None:
        self._ask("resume", job)

    def slots(self) -> int | None:
        return None

    def probe(self) -> Health:
        return self._ask("probe")

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._send((method, arguments))
        assert self._process is not None
        assert self._process.stdout is not None
        answer = pickle.load(self._process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()


def gridengine_site(cell: Cell, directory: Path) -> Iterator[JobSite]:
    """A place for jobs on the cell, none of which is left there afterwards."""
    options = OGS.Options.model_validate(cell.options)
    site = JobSite(directory, lambda context: GridEngineElsewhere(context, options))
    yield site
    cell.run("qdel", f"{site.names}-*")
    site.end()


def serve() -> None:
    """The other process: calls the methods that it is told, until it is told to close."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    system = OGS(*pickle.load(sys.stdin.buffer))
    method = ""
    while method != "close":
        method, arguments = pickle.load(sys.stdin.buffer)
        try:
            answer = getattr(system, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - the other process raises it
            answer = error
        pickle.dump(list(answer) if method == "run_many" else answer, out)
        out.flush()


if __name__ == "__main__":
    serve()
