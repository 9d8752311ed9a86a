"""Rules of our own, as examples.  Each can be used in the routes of the configuration under its function's name:

    routes:
      - name: alignments
        rules:
          - program: {names: ["blast*", mafft]}
          - big_input: {size: 100M}
        execution_system: cluster

A rule gets the job and, by name, the parameters that the route gives it, and answers yes or no.  After a change: `execd reload`.
"""

from fnmatch import fnmatchcase
from pathlib import PurePath

from execution_engine.job_routing import rules


@rules.register
def program(job, names: list[str]):
    """The program that the job runs is one of these patterns.  A job whose command is a shell script runs no single program."""
    if isinstance(job.command, str) or not job.command:
        return False
    called = PurePath(job.command[0]).name
    return any(fnmatchcase(called, name) for name in names)


@rules.register
def big_input(job, size: rules.Size = "10M"):
    """The inputs that the job brings along have this size or more, all together."""
    contents = (content for content in job.inputs.values() if isinstance(content, str | bytes))
    return sum(len(content) for content in contents) >= size
