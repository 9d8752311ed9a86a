"""A real engine for a test: its own directory, its own database, started and stopped as an administrator would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from execution_engine.client import Client
from execution_engine.config import Config, load
from execution_engine.jobs.status import FINAL

ROOT = Path(__file__).resolve().parents[2]
EXECD = [sys.executable, str(ROOT / "bin" / "execd")]


def until(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Waits until the condition holds and returns its value."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)
    return value


class Engine:
    """An engine below `directory`.  `settings` are put over the default configuration, section by section."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.file = directory / "execd.yaml"
        self.execd("init", str(directory), configured=False)
        content = yaml.safe_load(self.file.read_text())
        for section, values in settings.items():
            both_documents = isinstance(values, dict) and isinstance(content.get(section), dict)
            content[section] = {**content[section], **values} if both_documents else values
        self.file.write_text(yaml.safe_dump(content))

    def change(self, **sections: Any) -> None:
        """Replaces whole sections of the configuration."""
        self.file.write_text(yaml.safe_dump({**yaml.safe_load(self.file.read_text()), **sections}))

    @property
    def config(self) -> Config:
        return load(self.file)

    def execd(
        self, *arguments: str, check: bool = True, configured: bool = True, through: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command line, by the command `through`, if one is given."""
        options = ["-c", str(self.file)] if configured else []
        done = subprocess.run(
            [*through, *EXECD, *options, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            stdin=subprocess.DEVNULL,
            check=False,
            **more,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"execd {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self.log()}"
            )
        return done

    def start(self) -> None:
        self.execd("start")

    def stop(self) -> None:
        self.execd("stop")

    def log(self) -> str:
        """The engine's log."""
        try:
            return self.config.log.file.read_text()
        except OSError as error:
            return f"(no log: {error})"

    def client(self) -> Client:
        return Client(self.config)

    def submit(self, *documents: dict[str, Any]) -> list[Any]:
        with self.client() as client:
            return client.submit(list(documents))

    def job(self, job_id: Any) -> dict[str, Any]:
        with self.client() as client:
            return client.get(job_id)

    def wait(self, ids: Collection[Any], timeout: float = 60.0) -> list[dict[str, Any]]:
        """The jobs, when all of them have ended."""
        with self.client() as client:
            until(
                lambda: set(client.statuses(ids).values()) <= FINAL, f"all {len(ids)} jobs ended\n{self.log()[-5000:]}", timeout
            )
            return [client.get(job_id) for job_id in ids]

    def run(self, *documents: dict[str, Any], timeout: float = 60.0) -> list[dict[str, Any]]:
        """Submits jobs to the running engine, and returns them when they have ended."""
        return self.wait(self.submit(*documents), timeout)

    def until_status(self, job_id: Any, *statuses: str, timeout: float = 30.0) -> dict[str, Any]:
        """The job, when it has one of these statuses."""
        with self.client() as client:

            def reached() -> dict[str, Any] | None:
                job = client.get(job_id)
                return job if job["status"] in statuses else None

            return until(
                reached,
                f"job {job_id} is {' or '.join(statuses)}, not {client.get(job_id)['status']}\n{self.log()[-3000:]}",
                timeout,
            )

    def state(self) -> dict[str, Any]:
        """What `execd status --json` says of an engine that runs, with or without outages."""
        done = self.execd("status", "--json", check=False)
        assert done.returncode in (0, 1), done
        return json.loads(done.stdout)

    def master(self) -> psutil.Process:
        return psutil.Process(int((self.config.run_dir / "execd.pid").read_text()))

    def processes(self) -> list[psutil.Process]:
        """The master and all processes below it."""
        master = self.master()
        return [master, *master.children(recursive=True)]

    def process(self, title: str) -> psutil.Process | None:
        """The process of this engine with this title (`execd: monitor`), if there is one."""
        for process in self.processes():
            try:
                if process.cmdline()[0] == title:
                    return process
            except (psutil.Error, IndexError):
                continue
        return None

    def kill(self) -> list[psutil.Process]:
        """Kills the master and all processes below it; they are returned."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # it died with its parent just now
                process.kill()
        return processes

    def end(self) -> None:
        """Ends all that belongs to this engine, by process id: the engine itself, its keepers, the jobs that still run."""
        if not self.file.exists():
            return
        self.execd("stop", check=False)
        end_processes(self.directory)


def statuses(job: dict[str, Any]) -> list[str]:
    """The statuses that a job has come to, in order."""
    return [entry["status"] for entry in job["history"]]


def ends(jobs: list[dict[str, Any]]) -> list[tuple[str, int | None, str | None]]:
    """Status, exit code and reason of jobs that have ended."""
    return [(job["status"], job["exit"]["code"], job["exit"]["reason"]) for job in jobs]


def leave_exit_record(directory: Path) -> None:
    """As the script of the job in this directory does whose command ended with 0."""
    (directory / ".execd" / "exit").write_text("0m0.0s 0m0.0s\n0m0.0s 0m0.0s\nexecd-exit-1 code=0 attempt=1 host=node7 end\n")


def end_processes(directory: Path) -> None:
    """Ends, by process id, whatever was started by an engine below the directory."""
    mine = [process for process in psutil.process_iter() if _belongs(process, directory)]
    for process in mine:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(mine, timeout=10)


def _belongs(process: psutil.Process, directory: Path) -> bool:
    """Whether a process was started by this engine: it names the directory in its arguments, or works in it."""
    if process.pid == os.getpid():
        return False
    try:
        inside = Path(process.cwd()).is_relative_to(directory)
        environment = process.environ().get("EXECD_JOB_DIR", "")
        return inside or environment.startswith(str(directory)) or any(str(directory) in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


@contextmanager
def running_engine(directory: Path, **settings: Any) -> Iterator[Engine]:
    """A started engine, and nothing of it afterwards."""
    engine = Engine(directory, **settings)
    try:
        engine.start()
        yield engine
    finally:
        engine.end()
