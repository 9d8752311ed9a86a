"""The question to an execution system about many jobs, in which no job's own fault costs the others their answer."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, ON_SYSTEM, Status
from execution_engine.systems.execution_systems import ExecutionSystem

_LEFT_OUT = 60.0
"""Seconds for which a job is not asked about whose question failed."""
_MOST_FAILURES = 50
"""Questions about one job each that may fail, without any that was answered, before it is the system that does not answer."""
_ANSWERS = ON_SYSTEM | FINAL


class Questions:
    """Asks one system.  `beat` is called between its answers."""

    def __init__(self, system: ExecutionSystem, clock: Clock, beat: Callable[[], object]) -> None:
        self._system = system
        self._clock = clock
        self._beat = beat
        self._left_out: dict[str, float] = {}
        self._answered = False
        self._failures = 0

    def statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        """The statuses of these jobs by their `text_id`, as far as the system told them.

        One question for all.  If that fails, for another reason than that the system is away, halves of them are asked about,
        and halves of these, until it is known which jobs it fails for: they are left out for a minute, and the log names them.
        Raises ExecutionSystemError (transient) when the system does not answer at all.
        """
        now = self._clock.monotonic()
        self._left_out = {job: until for job, until in self._left_out.items() if until > now}
        self._answered, self._failures = False, 0
        return self._ask([job for job in jobs if job.text_id not in self._left_out])

    def _ask(self, jobs: Sequence[Job]) -> dict[str, Status]:
        if not jobs:
            return {}
        self._beat()
        try:
            answers = self._system.get_statuses(jobs)
            wrong = [job for job in jobs if answers.get(job.text_id, Status.RUNNING) not in _ANSWERS]
        except Exception as error:  # an administrator's class may raise anything
            if isinstance(error, ExecutionSystemError) and error.transient:
                raise
            return self._halves(jobs, error)
        self._answered = True
        for job in wrong:
            self._leave_out(job, TypeError(f"get_status returned {answers.pop(job.text_id)!r}, no status of a job there"))
        return {job_id: Status(answer) for job_id, answer in answers.items()}

    def _halves(self, jobs: Sequence[Job], error: Exception) -> dict[str, Status]:
        if len(jobs) > 1:
            half = len(jobs) // 2
            return {**self._ask(jobs[:half]), **self._ask(jobs[half:])}
        self._failures += not isinstance(error, ExecutionSystemError)
        if self._failures >= _MOST_FAILURES and not self._answered:
            raise ExecutionSystemError(f"get_statuses raised {error!r} for each job", transient=True) from error
        self._leave_out(jobs[0], error)
        return {}

    def _leave_out(self, job: Job, error: Exception) -> None:
        self._left_out[job.text_id] = self._clock.monotonic() + _LEFT_OUT
        text = "".join(traceback.format_exception(error))
        name = self._system.context.name
        events.emit("system.error", system=name, method="get_status", job=job.text_id, error=repr(error), traceback=text)
