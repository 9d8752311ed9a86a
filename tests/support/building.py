"""Jobs, configurations and job scripts for tests of the building."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from execution_engine.building import build
from execution_engine.config import Config
from execution_engine.jobs.exit_record import JOB_SCRIPT, ExitRecord, read_exit_record
from execution_engine.jobs.job import Job

_CANDIDATES = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"], "sh": ["/bin/sh"]}
_FOUND = {name: Path(path).resolve() for name, argv in _CANDIDATES.items() if (path := shutil.which(argv[0]))}
SHELLS = {name: _CANDIDATES[name] for name, path in _FOUND.items() if name != "sh" or path not in list(_FOUND.values())[:-1]}
"""The POSIX shells of this machine."""


def configuration(root: Path, **sections: Any) -> Config:
    """A configuration with everything below `root`."""
    smallest = {
        "file": root / "execd.yaml",
        "database": {"url": f"sqlite:///{root}/execd.db"},
        "jobs_dir": root / "jobs",
        "run_dir": root / "run",
        "log": {"file": root / "execd.log"},
        "execution_systems": {"here": {"class": "Local"}},
        "routes": [{"name": "default", "execution_system": "here"}],
    }
    return Config.model_validate({**smallest, **sections})


def a_job(job_id: Any = "job1", **fields: Any) -> Job:
    """A job that runs `true`, unless `fields` say otherwise."""
    return Job.from_document({"_id": job_id, "status": "building", "command": ["true"], **fields})


def until(holds: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Waits until `holds` is true."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.005)


class BuiltJob:
    """A job that is built, and whose script can be run as an execution system would: no environment, no arguments."""

    def __init__(self, root: Path, shell: Sequence[str], **fields: Any) -> None:
        self.directory = build(a_job(**fields), configuration(root))
        self.script = self.directory / JOB_SCRIPT
        self.argv = [shutil.which(shell[0]) or shell[0], *shell[1:], str(self.script)]

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The running script; whatever is left of its process group afterwards is ended."""
        script = subprocess.Popen(
            self.argv,
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield script
        finally:
            _end_group(script.pid)
            script.communicate(timeout=20)

    def run(self) -> subprocess.CompletedProcess[bytes]:
        """Runs the script to its end."""
        with self.started() as script:
            out, err = script.communicate(timeout=20)
            return subprocess.CompletedProcess(self.argv, script.returncode, out, err)

    def end(self) -> tuple[int, ExitRecord]:
        """Runs the script to its end; its own exit code, and the record."""
        code = self.run().returncode
        return code, self.record()

    def record(self) -> ExitRecord:
        record = read_exit_record(self.directory)
        assert record is not None
        return record

    def text(self, name: str) -> str:
        """The content of a file in the job's directory; empty if there is none."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def wait_for(self, name: str, content: str = "") -> None:
        """Waits until the job has made this file, with this content if one is given."""
        path = self.directory / name
        until(lambda: path.exists() and (not content or path.read_text() == content), f"{name} is there {content!r}")


def _end_group(group: int) -> None:
    try:
        os.killpg(group, 9)
    except ProcessLookupError:
        return
