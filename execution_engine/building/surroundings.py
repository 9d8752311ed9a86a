"""What a job finds around its command: how private its files are, what is done before it, and which shell runs a string."""

from __future__ import annotations

from dataclasses import dataclass

from execution_engine.building.command_line import interpreter_of
from execution_engine.errors import BuildError
from execution_engine.jobs.job import Job

PRIVATE = 0o077
_SHELL = ("/bin/sh",)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the administrator says of the jobs of one execution system."""

    umask: int = PRIVATE
    """the widest that a job may have, and what one has that says nothing"""
    prologue: str = ""
    """lines for /bin/sh, before the command"""
    shell: tuple[str, ...] = ()
    """what runs a command that is a string; nothing: /bin/sh"""

    def umask_of(self, job: Job) -> int:
        """The umask of the job.  Raises BuildError when it asks for a wider one than is allowed."""
        if not job.umask:
            return self.umask
        wanted = int(job.umask, 8)
        if self.umask & ~wanted:
            raise BuildError(
                f"umask: {job.umask} is wider than {self.umask:03o}, which is allowed on its system; "
                "leave it out, or let the administrator widen `umask` of that system"
            )
        return wanted

    def interpreter_of(self, job: Job) -> tuple[str, ...]:
        """Program and arguments that run the job's command, a string: its own `shell`, its `#!` line, the system's, /bin/sh.

        Raises BuildError for a line that no system understands.
        """
        assert isinstance(job.command, str)
        own = (job.shell,) if isinstance(job.shell, str) else job.shell
        return tuple(filter(None, own)) or interpreter_of(job.command) or self.shell or _SHELL
