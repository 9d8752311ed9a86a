"""A Torque server for the tests: a stand-in built on facts measured on a real one, or a real one that the environment names.

Debian has no package of Torque.  The stand-in is the commands in tests/support/torque, a DRMAA library that a C compiler makes of
drmaa.c there, and a directory of files by which they know the jobs, which really run.  With EXECD_TEST_TORQUE naming the host of
a real server, and DRMAA_LIBRARY_PATH pbs-drmaa, the contract of all systems is tested there, too, with the commands on the PATH.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from execution_engine.systems.torque import Torque
from tests.support.elsewhere import Elsewhere
from tests.support.engine_fixtures import short_directory
from tests.support.engines import Engine, end_processes, running_engine
from tests.support.job_sites import JobSite

SOURCES = Path(__file__).parent / "torque"
COMMANDS = ("server", "qstat", "qselect", "qdel", "qhold", "qrls", "qrerun", "qsig", "submit", "mom")
NO_COMPILER = "no C compiler for the stand-in of Torque: apt-get install gcc libc6-dev"
REAL = os.environ.get("EXECD_TEST_TORQUE")
"""The host of a real server."""
HOST = "head01"


@dataclass(frozen=True)
class StandIn:
    """A server in a directory of its own."""

    directory: Path
    library: Path

    def make(self) -> None:
        """Sets it up, without jobs."""
        for name in ("bin", "jobs"):
            (self.directory / name).mkdir(parents=True)
        for command in COMMANDS:
            (self.directory / "bin" / command).symlink_to(SOURCES / command)
        (self.directory / "server_name").write_text(f"{HOST}\n")
        (self.directory / "next").write_text("1\n")

    @property
    def options(self) -> dict[str, Any]:
        """The keys of an execution system in the configuration that runs jobs here."""
        return {
            "server_name": HOST,
            "commands": str(self.directory / "bin"),
            "drmaa_library": str(self.library),
            "environment": {"TORQUE_STANDIN": str(self.directory)},
            "timeout": "10s",
        }

    def settings(self, **options: Any) -> dict[str, Any]:
        """The sections of an engine's configuration that gives all jobs to this server, and is quick to notice."""
        return {
            "execution_systems": {"pbs": {"class": "Torque", **self.options, **options}},
            "routes": [{"name": "all", "execution_system": "pbs"}],
            "engine": {
                "grace": "1s",
                "status_interval": {"min": "200ms", "max": "1s"},
                "retry_delay": {"min": "200ms", "max": "1s"},
            },
        }

    def mark(self, name: str, text: str = "") -> None:
        """Makes the server `down`, `hung` or `mute` (takes jobs and does not say so), its answers `cut` after so many bytes, or
        each submission end in a `refusal`; with `no_mom` it has no contact to its node, and says so unless the text is `mute`;
        with `operator` all who ask it are its operators; with `slow_start` the scripts of jobs that are `R` do not begin.

        The next submission only: `late` is taken, and its answer read as that to the next; `lost` is not, and the next gets an id
        that is nobody's, as does one with a `lie`."""
        (self.directory / name).write_text(text)

    def unmark(self, name: str) -> None:
        """Takes that back."""
        (self.directory / name).unlink()

    def calls(self) -> list[str]:
        """The calls of qstat."""
        file = self.directory / "calls"
        return (
            [line.partition("qstat ")[2] for line in file.read_text().splitlines() if "/qstat " in line] if file.exists() else []
        )

    def asked(self, command: str) -> int:
        """How often a command was called."""
        file = self.directory / "calls"
        return sum(f"/{command} " in line for line in file.read_text().splitlines()) if file.exists() else 0

    def ids(self, name: str) -> list[str]:
        """The ids under which it has, or had, jobs of this name."""
        return [file.parent.name for file in (self.directory / "jobs").glob("*/name") if file.read_text() == f"{name}\n"]

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs one of the commands as anybody might."""
        return subprocess.run(
            [str(self.directory / "bin" / command), *words],
            env={**os.environ, "TORQUE_STANDIN": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def make_eligible(self, native_id: str) -> None:
        """Lets the time come that a job waits for."""
        (self.directory / "jobs" / native_id / "begin").unlink()

    def plant(self, name: str, owner: str = "mallory") -> str:
        """Has a job of this name that another account submitted; returns its id."""
        directory = self.directory / "jobs" / f"9{len(list((self.directory / 'jobs').iterdir()))}.{HOST}"
        directory.mkdir()
        (directory / "owner").write_text(f"{owner}\n")
        (directory / "begin").write_text("")
        (directory / "name").write_text(f"{name}\n")
        return directory.name

    def purge(self, native_id: str) -> None:
        """Forgets a job, as when `keep_completed` is over."""
        shutil.rmtree(self.directory / "jobs" / native_id)

    def restart_mom(self) -> None:
        """Has the node's pbs_mom started anew in such a way that it gives its jobs up (`-r`)."""
        for pid in (self.directory / "jobs").glob("*/pid"):
            if not (pid.parent / "exit_status").exists():
                (pid.parent / "lost").touch()
                with suppress(ProcessLookupError):
                    os.killpg(int(pid.read_text()), signal.SIGKILL)

    def end(self) -> None:
        """Ends all that still runs here."""
        end_processes(self.directory)


@pytest.fixture(scope="session")
def torque_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's DRMAA library; without a compiler the test is left out."""
    if shutil.which("cc") is None:
        pytest.skip(NO_COMPILER)
    library = tmp_path_factory.mktemp("torque") / "libdrmaa.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(SOURCES / "drmaa.c")], check=True)
    return library


@contextmanager
def _stand_in(library: Path) -> Iterator[StandIn]:
    with short_directory() as directory:
        server = StandIn(directory / "torque", library)
        server.make()
        try:
            yield server
        finally:
            server.end()


@pytest.fixture
def torque(torque_library: Path) -> Iterator[StandIn]:
    """A stand-in that answers."""
    with _stand_in(torque_library) as server:
        yield server


@pytest.fixture(scope="module")
def shared_torque(torque_library: Path) -> Iterator[StandIn]:
    """As `torque`, one for all tests of a module that leave it as they found it."""
    with _stand_in(torque_library) as server:
        yield server


@pytest.fixture(scope="module")
def torque_engine(shared_torque: StandIn) -> Iterator[Engine]:
    """A running engine that gives its jobs to `shared_torque`, for such tests."""
    with short_directory() as directory, running_engine(directory / "engine", **shared_torque.settings()) as engine:
        yield engine


def real_torque_options() -> dict[str, Any]:
    """The keys of an execution system that runs jobs on the real server."""
    qstat = shutil.which("qstat")
    assert qstat, "EXECD_TEST_TORQUE is set, but there is no qstat on the PATH"
    return {"server_name": REAL, "drmaa_library": os.environ["DRMAA_LIBRARY_PATH"], "commands": str(Path(qstat).parent)}


def torque_site(options: dict[str, Any], directory: Path) -> Iterator[JobSite]:
    """A place for jobs on a server, none of which is left there afterwards."""
    valid = Torque.Options.model_validate(options)
    site = JobSite(directory, lambda context: Elsewhere(Torque, context, valid))
    yield site
    system = Torque(site.context, valid)
    for job in site.jobs:
        system.kill(job)
    site.end()
