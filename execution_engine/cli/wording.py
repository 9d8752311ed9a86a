"""What a job's document says, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from execution_engine.cli.output import as_text, dig, local_text, span_text
from execution_engine.jobs.status import FINAL, Status

Document = Mapping[str, Any]


def command_text(document: Document) -> str:
    """The command as a person would type it."""
    command = document.get("command")
    return shlex.join(map(str, command)) if isinstance(command, list | tuple) else as_text(command)


def status_of(document: Document) -> Status | None:
    """The job's status; None where the document has something else there."""
    status = document.get("status")
    return Status(status) if type(status) in (str, Status) and status in set(Status) else None


def run_time(document: Document, now: datetime) -> str:
    """How long the command ran, or has been running."""
    started, ended = dig(document, "times.started"), dig(document, "times.ended")
    if status_of(document) in FINAL:
        return span_text(started, ended)
    return span_text(started, now)


def exit_text(document: Document) -> str:
    """How the command ended: `exit code 3`, `exit code 143 (SIGTERM), walltime`."""
    code, signal, reason = _exit(document)
    words = [f"exit code {code}" + (f" ({signal})" if signal else "")] if code is not None else []
    return ", ".join(words + ([str(reason)] if reason else []))


def exit_word(document: Document) -> str:
    """The same in a word, for a table: `walltime`, `SIGTERM`, `3`."""
    code, signal, reason = _exit(document)
    return as_text(reason or signal or code)


def refusal(document: Document) -> str:
    """The request that was refused last, and why; nothing when another was accepted since."""
    refused = document.get("refused")
    what, at, accepted = dig(document, "refused.what"), date_of(refused, "at"), date_of(document.get("requested"), "at")
    if not what or (at and accepted and at < accepted):
        return ""
    return f"the request to {what} it was refused: {dig(document, 'refused.why')}"


def unconfirmed_kill(document: Document) -> str:
    """That the job's system was told to end it, and it has not ended; nothing otherwise."""
    requested = document.get("requested")
    if status_of(document) in FINAL or dig(document, "requested.what") != "kill" or not dig(document, "requested.sent"):
        return ""
    system = dig(document, "execution.system") or "its execution system"
    return f"kill was sent at {local_text(date_of(requested, 'at'))} to {system}, which has not confirmed it yet"


def date_of(document: Any, name: str) -> datetime | None:
    """The date in a field, with its time zone; None for anything else."""
    value = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _exit(document: Document) -> tuple[Any, Any, Any]:
    """Exit code, signal and reason; the reasons that say no more than code and signal do are left out."""
    code, signal, reason = (dig(document, f"exit.{name}") for name in ("code", "signal", "reason"))
    says_nothing_new = reason == "exit code" or (reason == "signal" and signal)
    return code, signal, None if says_nothing_new else reason
