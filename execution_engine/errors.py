"""The one tree of errors.  A message says what happened, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class ExecdError(Exception):
    """Base of every error that execd raises on purpose."""


class ConfigError(ExecdError):
    """The configuration cannot be used.  `problems` lists all that is wrong with it, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class PluginError(ExecdError):
    """A plug-in file cannot be loaded, or is not safe to load."""


class RoutingError(ExecdError):
    """No execution system can be chosen for a job."""


class BuildError(ExecdError):
    """A job's directory or script cannot be made; the fault is the job's own."""


class InvalidJob(ExecdError):
    """A document that does not describe a job.  `problems` names each bad field, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class StoreError(ExecdError):
    """The database refused an operation, or the caller asked for something that is not there."""


class StoreUnavailable(StoreError):
    """The database cannot be reached now; nothing is known of the operation, which is safe to repeat."""


class LeaseLost(ExecdError):
    """This process stood still for longer than its lease: what it held may be others' by now, and it must not go on."""


class NoSuchJob(StoreError):
    """No job, or more than one, has this id or beginning of an id."""


class DaemonError(ExecdError):
    """The daemon cannot be started, stopped or asked."""


class ExecutionSystemError(ExecdError):
    """An execution system refused or failed.

    `transient=True`: the system's fault, worth another try (it is down, busy, out of reach).
    `transient=False`: the job's own fault, which no repetition mends (a resource that does not exist).
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class SystemFull(ExecutionSystemError):
    """The execution system works and takes no more jobs now: a limit on their number is reached."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class SystemClosed(ExecutionSystemError):
    """The execution system works and takes nobody's or none of this account's jobs now: its administrator closed it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class NotSupported(ExecutionSystemError):
    """The execution system has no such operation (for example `suspend`)."""
