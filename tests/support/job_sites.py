"""A place where real jobs run on one execution system: real directories, real scripts, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from execution_engine.building.job_directory import build
from execution_engine.config import Config
from execution_engine.jobs.exit_record import ExitRecord, read_exit_record
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Started
from execution_engine.systems.local_keeper import processes

TIMEOUT = 20.0
PATH = os.environ["PATH"]
System = Callable[[Context], ExecutionSystem]
_T = TypeVar("_T")


def until(holds: Callable[[], _T | None], what: str = "the condition", timeout: float = TIMEOUT) -> _T:
    """Waits until `holds` gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    while not (result := holds()):
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.01)
    return result


class JobSite:
    """Builds jobs below a directory of the test's own and runs them on a system that `make` makes."""

    def __init__(self, root: Path, make: System, *, kill_delay: float = 5.0) -> None:
        self.root = root
        self.run_dir = root / "run"
        self.run_dir.mkdir(mode=0o700)
        self.config = Config.model_validate(
            {
                "file": root / "execd.yaml",
                "database": {"url": f"sqlite:///{root}/execd.db"},
                "jobs_dir": root / "jobs",
                "run_dir": self.run_dir,
                "log": {"file": root / "log"},
                "execution_systems": {"here": {"class": "Local"}},
                "routes": [{"name": "default", "execution_system": "here"}],
            }
        )
        self.context = Context("here", self.run_dir, {"PATH": PATH}, kill_delay)
        self._make = make
        self._numbers = count(1)
        self.names = f"execd-test-{uuid.uuid4().hex[:8]}"
        """how the jobs' names in the system begin, which others may use at the same time"""
        self.jobs: list[Job] = []
        self.system = self.another_actor()

    def another_actor(self) -> ExecutionSystem:
        """The same system as another process of the engine would make it."""
        system = self._make(self.context)
        system.boot()
        return system

    def job(self, command: str | list[str], **fields: Any) -> Job:
        """A job that is built and not yet submitted."""
        number = next(self._numbers)
        name = {"execution": {"name": f"{self.names}-{number}-1"}}
        job = Job.from_document({"_id": f"job{number}", "status": "submitting", "command": command, **name, **fields})
        built = job.model_copy(update={"dir": str(build(job, self.config))})
        self.jobs.append(built)
        return built

    def run(self, job: Job) -> Job:
        """Submits a job; as the engine would store it afterwards."""
        return submitted(job, self.system.run(job))

    def start(self, command: str | list[str], **fields: Any) -> Job:
        """Builds a job and submits it."""
        return self.run(self.job(command, **fields))

    def wait(self, job: Job, *statuses: Status, timeout: float = TIMEOUT) -> Status:
        """Waits until the system says one of these of the job; by default that it has ended."""
        wanted = statuses or tuple(FINAL)
        return until(lambda: s if (s := self.system.get_status(job)) in wanted else None, f"{job.text_id} in {wanted}", timeout)

    def wait_gone(self, job: Job, timeout: float = TIMEOUT) -> None:
        """Waits until the system has the job no longer."""
        self.wait(job, *FINAL, Status.UNKNOWN, timeout=timeout)

    def record(self, job: Job) -> ExitRecord | None:
        return read_exit_record(Path(str(job.dir)))

    def file(self, job: Job, name: str) -> Path:
        return Path(str(job.dir)) / name

    def wait_file(self, job: Job, name: str) -> str:
        """Waits until the job has written a line into this file, and returns it."""
        path = self.file(job, name)
        return until(lambda: path.read_text().strip() if path.exists() and "\n" in path.read_text() else None, f"{path}")

    def pid(self, job: Job, name: str) -> processes.Process:
        """The process whose pid the job has written into this file."""
        process = processes.read(int(self.wait_file(job, name)))
        assert process is not None
        return process

    def processes_of(self, job: Job) -> list[processes.Process]:
        """The living processes that were started with this job's directory in their environment or arguments."""
        return [process for process in self.alive() if f"{job.dir}".encode() in _told(process.pid)]

    def alive(self) -> list[processes.Process]:
        """All processes that work on this site: in its directories, with them in their environment, or with files of it open."""
        found = []
        for entry in Path("/proc").glob("[1-9]*"):
            process = processes.read(int(entry.name)) if int(entry.name) != os.getpid() else None
            if process is not None and process.alive and self._touches(process.pid):
                found.append(process)
        return found

    def end(self) -> None:
        """Ends the system and every process that is left."""
        self.system.close()
        deadline = time.monotonic() + TIMEOUT
        while (left := self.alive()) and time.monotonic() < deadline:
            for process in left:
                processes.send(process, signal.SIGKILL)
            time.sleep(0.01)

    def _touches(self, pid: int) -> bool:
        return f"{self.root}/".encode() in _told(pid) or any(self.root in link.parents for link in _links(pid))


def _links(pid: int) -> Iterator[Path]:
    """Where a process is and what it has open; a file that it closes meanwhile is left out."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        yield (process / "cwd").readlink()
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                yield link.readlink()


def _told(pid: int) -> bytes:
    """The environment and the arguments of a process."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() + b"\0" + Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def submitted(job: Job, outcome: str | Started) -> Job:
    """The job with the native id that the system gave."""
    native = outcome.native_id if isinstance(outcome, Started) else outcome
    return job.model_copy(update={"execution": job.execution.model_copy(update={"job_no": native})})
