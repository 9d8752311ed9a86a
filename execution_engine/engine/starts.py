"""Whether a job's command can still start: asked before a job ends, or is held, on the ground that it did not."""

from __future__ import annotations

from pathlib import Path

from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import prevent_start
from execution_engine.jobs.job import Job


def never_starts(job: Job) -> bool:
    """Sees to it that no copy of the job's script, wherever it waits, starts the command.  False: one did, or does.

    Raises ExecutionSystemError(transient=True) when that is not known.
    """
    if job.dir is None:
        return True
    try:
        return prevent_start(Path(job.dir), job.attempt)
    except OSError as error:
        raise ExecutionSystemError(
            f"cannot tell in {job.dir} whether its command has started: {error}", transient=True
        ) from error
