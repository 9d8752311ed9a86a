"""One session with a batch system through its DRMAA C library, which is loaded here and nowhere else, when a session is opened.

The library reads its environment when it is loaded, may crash or hang, and has one session per process: this is for actor
processes that were started with the environment of their system.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from execution_engine import events
from execution_engine.errors import ExecutionSystemError, SystemFull
from execution_engine.systems.deadline import Deadline

Action = Literal["terminate", "hold", "release", "suspend", "resume"]

_REFUSALS = frozenset(
    {
        "AuthorizationException",
        "ConflictingAttributeValuesException",
        "DeniedByDrmException",
        "InvalidArgumentException",
        "InvalidAttributeFormatException",
        "InvalidAttributeValueException",
        "UnsupportedAttributeException",
    }
)
"""Errors by which the system says that it will not do this (DRMAA 1.0, section 3.2): another try would get the same answer."""
_FULL = "TryLaterException"
_LONGEST_MESSAGE = 500


class NoSuchNativeJob(ExecutionSystemError):
    """The system has no job of this id, or has it no longer."""


class Refused(ExecutionSystemError):
    """The system will not take this job.  `words`: its own."""

    def __init__(self, who: str, words: str) -> None:
        super().__init__(f"{who} refused it: {words}")
        self.words = words


class WrongState(ExecutionSystemError):
    """The job's state does not allow this, perhaps because what was asked for is done already."""


class DrmaaSession:
    """Submits and controls jobs.  `who` is the system's name, for messages; no call takes longer than `timeout` seconds: the
    process ends instead, because nothing can interrupt the library.

    An error that is no clear answer leaves the library's connection out of step: it may read the answer to one question as that
    to the next, so that a job would get the id of another, or of none.  From then on the session does nothing any more: a new
    process with a new one has to look each job up by its name."""

    def __init__(self, who: str, contact: str | None, timeout: float) -> None:
        self._who = who
        self._contact = contact
        self._deadline = Deadline(who, timeout)
        self._session: Any = None
        self._template: Any = None
        self.lost = ""
        """why the session is of no use any more, if it is not"""

    def open(self) -> None:
        """Loads the library and opens the session.  Raises ExecutionSystemError (transient) when it cannot."""
        try:
            import drmaa
        except (OSError, RuntimeError, AttributeError) as error:
            raise ExecutionSystemError(f"{self._who}: the DRMAA library cannot be loaded: {error}", transient=True) from error
        session = drmaa.Session()
        try:
            self._call(session.initialize, self._contact)
            self._session = session
            self._template = self._call(session.createJobTemplate)
        except Exception as error:
            raise ExecutionSystemError(f"{self._who}: no DRMAA session: {_words(error)}", transient=True) from error

    def close(self) -> None:
        """Ends the session: one that is left open is kept for minutes by the system, which has room for a limited number."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            self._call(session.exit)
        except Exception as error:  # noqa: BLE001 - whatever it is, the process ends now, and the session with it
            if not self.lost:
                events.emit("system.error", system=self._who, method="close", error=_words(error))

    def describe(self) -> str:
        """What the system calls itself."""
        return str(self._call(lambda: self._session.drmsInfo))

    def prepare(self, **attributes: Any) -> None:
        """Sets attributes of the template that all jobs have in common."""
        for name, value in attributes.items():
            self._call(setattr, self._template, name, value)

    def submit(self, name: str, script: Path, native: str) -> str:
        """Submits a script without arguments and environment, and returns the native id.

        Raises Refused when the system refused this job, SystemFull when it takes no more jobs now, and ConnectionError
        when it gave no answer to rely on: it may have the job all the same, and the session is lost.
        """
        self._check_usable()
        template = self._template
        try:
            with self._deadline:
                template.jobName = name
                template.remoteCommand = str(script)
                template.nativeSpecification = native
                native_id = self._session.runJob(template)
        except UnicodeError as error:
            raise Refused(self._who, f"{native!r} cannot be written: {error}") from error
        except Exception as error:
            kind = type(error).__name__
            if kind in _REFUSALS:
                raise Refused(self._who, _words(error)) from error
            if kind == _FULL:
                raise SystemFull(f"{self._who} takes no more jobs now: {_words(error)}") from error
            self.lost = f"{self._who} gave no answer to a submission: {_words(error)}"
            raise ConnectionError(self.lost) from error
        if not native_id:
            self.lost = f"{self._who} gave no id for a submission"
            raise ConnectionError(self.lost)
        return str(native_id)

    def control(self, native_id: str, action: Action) -> None:
        """Asks that something be done with a job; a later status tells whether it was.

        Raises NoSuchNativeJob, WrongState, or another ExecutionSystemError with the system's words: transient unless the system
        refused it.
        """
        self._check_usable()
        try:
            self._call(self._session.control, native_id, action)
        except Exception as error:
            kind, words = type(error).__name__, f"{self._who}: {_words(error)}"
            if kind == "InvalidJobException":
                raise NoSuchNativeJob(words) from error
            if kind.endswith("InconsistentStateException"):
                raise WrongState(words) from error
            if kind not in _REFUSALS and kind != _FULL:
                self.lost = words
            raise ExecutionSystemError(words, transient=kind not in _REFUSALS) from error

    def _check_usable(self) -> None:
        if self.lost:
            raise ExecutionSystemError(f"{self.lost}; another process has to go on", transient=True)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._deadline:
            return function(*arguments)


def _words(error: Exception) -> str:
    """The system's own words, in one line, without the code that the Python binding puts before them."""
    text = re.sub(r"^code \d+: ", "", " ".join(str(error).split()))
    return text[:_LONGEST_MESSAGE] or type(error).__name__
