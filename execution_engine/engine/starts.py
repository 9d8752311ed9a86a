"""Whether a job's command can still start: asked before a job ends, or is held, on the ground that it did not."""

from __future__ import annotations

from pathlib import Path

from execution_engine import events
from execution_engine.jobs.exit_record import prevent_start
from execution_engine.jobs.job import Job


class Unclear(Exception):
    """That is not known of this job, and says nothing about any other; the log names its directory."""


def never_starts(job: Job) -> bool:
    """Sees to it that no copy of the job's script, wherever it waits, starts the command.  False: one did, or does.

    Raises Unclear.
    """
    if job.dir is None:
        return True
    try:
        return prevent_start(Path(job.dir), job.attempt)
    except OSError as error:
        why = f"cannot tell in {job.dir} whether its command has started: {error}"
        events.emit("job.unclear", job=job.text_id, label=job.label, error=why)
        raise Unclear(why) from error
