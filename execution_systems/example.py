"""An example of an execution system of one's own: `Commands` runs jobs through three commands of the administrator.

For a batch system that execd does not know, a queue on this machine, a host behind ssh that shares the jobs' directories.
With task-spooler (`tsp`), for example, the configuration says:

    execution_systems:
      queue:
        class: Commands
        run: [tsp, sh, "{script}"]
        status: [tsp, -s, "{id}"]
        kill: [tsp, -k, "{id}"]
        states: {queued: pending}

- `run` starts `{script}` with /bin/sh, or queues it, prints the job's id there as the last word of its output, and returns at
  once (nothing that it leaves behind may keep that output open).  Exit code 75 means "not now, try again"; another than 0, that
  this job cannot run there.
- `status` prints as its last word what the job `{id}` is: pending, running, suspended, finished, error or killed, unknown if it
  knows no such job, or a word that `states` translates into one of these.  Another exit code than 0 means that it could not tell.
- `kill` asks that the job `{id}` be ended with all of its processes.

In the words of a command `{script}`, `{dir}`, `{name}` (unique), `{id}`, `{cores}`, `{memory}` (MB) and `{walltime}` (s)
stand for the job's.  No shell looks at them.  The commands see the environment that jobs see.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any

from pydantic import Field

from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.systems import execution_systems
from execution_engine.systems.execution_systems import ExecutionSystemError

TRY_AGAIN = 75
_STATUSES = {status.value: status for status in ON_SYSTEM | FINAL}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class CommandsOptions(execution_systems.Options):
    """The keys of the system's entry in the configuration."""

    run: tuple[str, ...] = Field(min_length=1)
    status: tuple[str, ...] = Field(min_length=1)
    kill: tuple[str, ...] = Field(min_length=1)
    states: dict[str, Status] = Field(default_factory=dict)
    timeout: float = Field(30.0, gt=0, description="seconds that a command may take")


@execution_systems.register
class Commands(execution_systems.ExecutionSystem):
    """A system that is driven by three commands."""

    Options = CommandsOptions

    def run(self, job: Job) -> str:
        done = self._call(self.options.run, job)
        if done.returncode != 0:
            raise ExecutionSystemError(_complaint(done), transient=done.returncode == TRY_AGAIN)
        if not done.stdout.split():
            raise RuntimeError(f"{done.args[0]} printed no id")  # it may have started the job all the same
        return str(done.stdout.split()[-1])

    def get_status(self, job: Job) -> Status:
        done = self._ask(self.options.status, job)
        word = done.stdout.split()[-1] if done.stdout.split() else ""
        status = self.options.states.get(word) or _STATUSES.get(word)
        if done.returncode != 0 or status is None:
            raise ExecutionSystemError(_complaint(done), transient=True)
        return Status(status)

    def kill(self, job: Job) -> None:
        done = self._ask(self.options.kill, job)
        if done.returncode != 0 and self.get_status(job) not in FINAL | {Status.UNKNOWN}:
            raise ExecutionSystemError(_complaint(done), transient=True)

    def _ask(self, command: tuple[str, ...], job: Job) -> subprocess.CompletedProcess[str]:
        try:
            return self._call(command, job)
        except subprocess.TimeoutExpired as error:
            raise ExecutionSystemError(f"{self.context.name}: {error}", transient=True) from error

    def _call(self, command: tuple[str, ...], job: Job) -> subprocess.CompletedProcess[str]:
        """Raises ExecutionSystemError when the command is not there, subprocess.TimeoutExpired when it does not end."""
        values = self._values(job)
        words = [_PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), word) for word in command]
        try:
            return subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=self.context.environment,
                timeout=self.options.timeout,
                check=False,
            )
        except OSError as error:
            raise ExecutionSystemError(f"{self.context.name}: cannot run {words[0]}: {error.strerror}", transient=True) from error

    def _values(self, job: Job) -> dict[str, Any]:
        return {
            "script": execution_systems.script(job),
            "dir": job.dir,
            "name": job.execution.name or job.safe_id,
            "id": job.execution.job_no or "",
            "cores": job.resources.cores,
            "memory": job.resources.memory >> 20,
            "walltime": round(job.resources.walltime),
        }


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-500:]
    return f"{done.args[0]} ended with exit code {done.returncode}: {said}"
