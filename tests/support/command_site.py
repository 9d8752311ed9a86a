"""A place for an execution system whose commands are scripts that say what a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from execution_engine.jobs.job import Job
from execution_engine.systems.execution_systems import Context


class CommandSite:
    """Its commands are in a directory of the test's own; its jobs have directories, and never run.

    `name`: the system's, in a configuration.
    """

    job_no = "1"
    """the native id of all of them"""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.commands = directory / "commands"
        self.commands.mkdir()
        self.context = Context(name, directory, {"PATH": "/usr/bin:/bin"})

    def command(self, name: str, text: str) -> None:
        """Makes a command that notes each of its calls."""
        script = self.commands / name
        script.write_text(f'#!/bin/sh\necho "$0 $*" >>{self.directory}/calls\n{text}\n')
        script.chmod(0o755)

    def calls(self) -> list[str]:
        file = self.directory / "calls"
        return [line.removeprefix(f"{self.commands}/") for line in file.read_text().splitlines()] if file.exists() else []

    def job(self, name: str, **fields: Any) -> Job:
        directory = self.directory / name
        (directory / ".execd").mkdir(parents=True)
        document = {"_id": name, "status": "running", "command": "x", "dir": str(directory), "attempt": 1, **fields}
        return Job.from_document({**document, "execution": {"name": f"execd-{name}-1", "job_no": self.job_no}})

    def started(self, job: Job) -> None:
        (Path(str(job.dir)) / ".execd/started").write_text("execd-start-1 attempt=1 pid=1 start=2 host=node1 end\n")
