"""A real engine for a benchmark, in a temporary directory: made, started and stopped through the command line, nothing left."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
import psutil
import yaml
from pymongo import MongoClient

from benchmarks.common import ROOT
from execution_engine.cli.context import ExitCode
from execution_engine.client import Client
from execution_engine.config import Config, load
from execution_engine.jobs.status import FINAL, Status

_EXECD = [sys.executable, str(ROOT / "bin" / "execd")]
WARM_UP = 50
"""Jobs that an engine runs before it is measured."""

_GLANCE = 0.05
_FEW = 20
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Site:
    """What an engine is measured on.  `jobs_dir`: below which the jobs' directories are made; `database`: None is embedded."""

    slots: int = 2
    directory: Path | None = None
    jobs_dir: Path | None = None
    database: str | None = None

    @property
    def described(self) -> dict[str, Any]:
        """For a report."""
        embedded = f"embedded, in {self.directory or tempfile.gettempdir()}"
        jobs = self.jobs_dir or self.directory or tempfile.gettempdir()
        return {"slots": self.slots, "jobs in": str(jobs), "database": "a server" if self.database else embedded}


def site_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of which a Site is made; the command gets that, as `site`."""

    @wraps(function)
    def on_site(*, slots: int, directory: Path | None, jobs_dir: Path | None, database: str | None, **others: Any) -> None:
        function(site=Site(slots, directory, jobs_dir, database), **others)

    command: Callable[..., Any] = on_site
    existing = click.Path(path_type=Path, exists=True, file_okay=False)
    for option in (
        click.option("--database", metavar="URL", help="A MongoDB server; default: an embedded database."),
        click.option("--jobs-dir", type=existing, help="Where the jobs' directories are made; /dev/shm is in memory."),
        click.option(
            "--directory", type=existing, help="Where all else of an engine is made; default: where temporary files are."
        ),
        click.option("--slots", default=2, show_default=True, type=click.IntRange(1), help="Jobs at a time."),
    ):
        command = option(command)
    return command


class Engine:
    """An engine that `execd init` made in `directory`, with `settings` over the sections of its configuration."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self._file = directory / "execd.yaml"
        self.execd("init", str(directory))
        content = yaml.safe_load(self._file.read_text())
        self._file.write_text(yaml.safe_dump({**content, **settings}))
        self.config: Config = load(self._file)

    def execd(self, *words: str, may_end: Collection[int] = (ExitCode.DONE,)) -> None:
        """Runs a command to its end, even when we are interrupted: one half done would leave processes that nobody knows of.

        Raises ClickException with the command's complaint when its exit code is none of `may_end`.
        """
        command = [*_EXECD, "-c", str(self._file), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            said, _ = process.communicate()
        except BaseException:
            process.communicate()
            raise
        if process.returncode not in may_end:
            raise click.ClickException(f"execd {words[0]}: {said}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, warm (it has run some jobs), and stopped afterwards, its keepers too."""
        try:
            self.execd("start")
            with self.client() as client:
                run(client, WARM_UP)
            yield
        finally:
            self.execd("stop", may_end=(ExitCode.DONE, ExitCode.NOT_RUNNING))
            for keeper in self.keepers():
                keeper.kill()
                psutil.wait_procs([keeper], timeout=10)

    def client(self) -> Client:
        return Client(self.config)

    def master(self) -> psutil.Process:
        return psutil.Process(int((self.config.run_dir / "execd.pid").read_text()))

    def keepers(self) -> list[psutil.Process]:
        """The processes that hold this engine's jobs on this machine, and outlive it: each has a lock in its run directory."""
        return [process for process in psutil.process_iter() if self._keeps(process)]

    def _keeps(self, process: psutil.Process) -> bool:
        try:
            if not "".join(process.cmdline()[:1]).startswith("execd: local"):
                return False
            return any(Path(file.path).parent == self.config.run_dir for file in process.open_files())
        except psutil.Error:
            return False


@contextmanager
def an_engine(site: Site, **settings: Any) -> Iterator[Engine]:
    """An engine that is not started yet.  `settings`: sections of the configuration."""
    with temporary_directory(site.directory) as directory, temporary_directory(site.jobs_dir) as jobs:
        sections: dict[str, Any] = {"execution_systems": {"here": {"class": "Local", "slots": site.slots}}}
        if site.jobs_dir is not None:
            sections["jobs_dir"] = str(jobs)
        name = f"execd_benchmark_{secrets.token_hex(4)}"
        if site.database is not None:
            sections["database"] = {"url": site.database, "name": name}
        try:
            yield Engine(directory / "engine", {**sections, **settings})
        finally:
            if site.database is not None:
                with MongoClient[Any](site.database) as server:
                    server.drop_database(name)


@contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory of our own that is gone afterwards.  Its path is short: unix sockets are made in it."""
    directory = Path(tempfile.mkdtemp(prefix="execd-benchmark-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def run(client: Client, jobs: int) -> float:
    """Inserts jobs of `true` at once; returns the seconds until the last of them is `finished`."""
    begin = time.perf_counter()
    await_finished(client, client.submit({"command": ["true"]} for _ in range(jobs)))
    return time.perf_counter() - begin


def await_finished(client: Client, ids: Sequence[Any]) -> None:
    """Waits until all of these have ended; looks at a few of the last ones mostly, so that the wait itself costs little.

    Raises ClickException if one ended badly, or if nothing has ended for minutes.
    """
    pending, give_up = list(ids), time.monotonic() + _PATIENCE
    while pending:
        if set(client.statuses(pending[-_FEW:]).values()) <= FINAL:
            statuses = client.statuses(pending)
            if bad := {status for status in statuses.values() if status in FINAL} - {Status.FINISHED}:
                raise click.ClickException(f"a job of `true` ended in {', '.join(bad)}")
            pending = [job for job in pending if statuses[job] not in FINAL]
        else:
            time.sleep(_GLANCE)
        if time.monotonic() > give_up:
            raise click.ClickException(f"{len(pending)} jobs have not ended within {_PATIENCE:g} s")
