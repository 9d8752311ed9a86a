"""A stand-in for a Torque server, built on facts measured on a real one.

Debian has no package of Torque.  This is the commands in tests/support/torque, a DRMAA library that a C compiler makes of drmaa.c
there, and a directory of files by which they know the jobs, which really run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.engines import end_processes

SOURCES = Path(__file__).parent / "torque"
COMMANDS = ("server", "qstat", "qselect", "qdel", "qhold", "qrls", "qrerun", "qsig", "submit", "mom")
HOST = "head01"
_REFUSALS = {"closed": "14 Queue is not enabled", "full": "17 Maximum number of jobs already in queue for user"}


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
        """Makes the server `down`, `hung`, `closed`, `full` or `mute` (takes jobs and does not say so), or its answers `cut`
        after so many bytes; with `no_mom` it has no contact to its node, and says so unless the text is `mute`; with `operator`
        all who ask it are its operators; with `slow_start` the scripts of jobs that are `R` do not begin.

        The next submission only: `late` is taken, and its answer read as that to the next; `lost` is not, and the next gets an id
        that is nobody's, as does one with a `lie`."""
        name, text = ("refusal", f"{_REFUSALS[name]}\n") if name in _REFUSALS else (name, text)
        (self.directory / name).write_text(text)

    def unmark(self, name: str) -> None:
        """Takes that back."""
        (self.directory / ("refusal" if name in _REFUSALS else name)).unlink()

    def needs_plain_account(self) -> None:
        """Leaves the test out where this account is an operator of the server."""

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

    def plant(self, name: str) -> str:
        """Has a job of this name that another account submitted; returns its id."""
        directory = self.directory / "jobs" / f"9{len(list((self.directory / 'jobs').iterdir()))}.{HOST}"
        directory.mkdir()
        (directory / "owner").write_text("mallory\n")
        (directory / "begin").write_text("")
        (directory / "name").write_text(f"{name}\n")
        return directory.name

    def is_there(self, native_id: str) -> bool:
        """Whether it has this job, and nobody has deleted it."""
        directory = self.directory / "jobs" / native_id
        return directory.exists() and not (directory / "deleted").exists()

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
