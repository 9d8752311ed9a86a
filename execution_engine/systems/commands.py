"""Runs the commands by which a batch system is asked, for as long as they may take."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from execution_engine.errors import ExecutionSystemError

_LONGEST_COMPLAINT = 500


class NoAnswer(ExecutionSystemError):
    """A command did not end in time: it says nothing, and may do so later."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    complaint: str
    """the beginning of its stderr, or of its stdout if that is empty"""


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one installation of a batch system.  `who` is the system's name, for messages."""

    who: str
    directory: Path
    environment: Mapping[str, str]
    timeout: float
    took: dict[str, float] = field(default_factory=dict)
    """seconds that each program took the last time"""

    def __call__(self, words: Sequence[str]) -> Said:
        """Runs the first of the words, a program in the directory, with the others as its arguments.

        Raises ExecutionSystemError (transient) when it cannot be run or does not end in time: nothing is known then.
        """
        began = time.monotonic()
        try:
            done = subprocess.run(
                [str(self.directory / words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=dict(self.environment),
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{self.who}: {words[0]} gave no answer within {self.timeout:g} s", transient=True) from None
        except OSError as error:
            raise ExecutionSystemError(
                f"{self.who}: cannot run {words[0]} in {self.directory}: {error.strerror}", transient=True
            ) from error
        finally:
            self.took[words[0]] = time.monotonic() - began
        out = done.stdout.decode("utf-8", "replace")
        complaint = " ".join((done.stderr.decode("utf-8", "replace").strip() or out).split())[:_LONGEST_COMPLAINT]
        return Said(done.returncode, out, complaint)

    def ask(self, words: Sequence[str]) -> str:
        """As a call, for a command of which only exit code 0 is an answer; returns its stdout."""
        said = self(words)
        if said.code != 0:
            raise ExecutionSystemError(f"{self.who}: {words[0]} ended with {said.code}: {said.complaint}", transient=True)
        return said.out
