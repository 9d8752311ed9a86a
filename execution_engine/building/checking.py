"""What makes a job impossible to build on any machine: found without touching the disk, by the engine and by who submits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from execution_engine.building.command_line import check_sizes, check_variable, command_line, interpreter_of
from execution_engine.building.inputs import check_names
from execution_engine.building.outputs import check_patterns
from execution_engine.errors import BuildError
from execution_engine.jobs.job import Job


def check(job: Job) -> list[str]:
    """All that is wrong with the job's command, environment, inputs and outputs, a line each."""
    problems = []
    for look in _looks(job):
        try:
            look()
        except BuildError as error:
            problems.append(str(error))
    return problems


def _looks(job: Job) -> Iterator[Callable[[], object]]:
    """One for each thing that may be wrong: a check ends at the first that is."""
    yield partial(command_line, job.command)
    if isinstance(job.command, str):
        yield partial(interpreter_of, job.command)
    yield partial(check_sizes, job)
    for name in job.env:
        yield partial(check_variable, name)
    for name in job.inputs:
        yield partial(check_names, (name,))
    for pattern in job.outputs:
        yield partial(check_patterns, (pattern,))
