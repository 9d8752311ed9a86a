"""What a job's document says, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from execution_engine.cli.output import as_text, dig, span_text
from execution_engine.jobs.status import FINAL

Document = Mapping[str, Any]


def command_text(document: Document) -> str:
    """The command as a person would type it."""
    command = document.get("command")
    return shlex.join(map(str, command)) if isinstance(command, list | tuple) else as_text(command)


def run_time(document: Document, now: datetime) -> str:
    """How long the command ran, or has been running."""
    started, ended = dig(document, "times.started"), dig(document, "times.ended")
    if document.get("status") in FINAL:
        return span_text(started, ended)
    return span_text(started, now)


def exit_text(document: Document) -> str:
    """How the command ended: `exit code 3`, `exit code 143 (SIGTERM), walltime`."""
    code, signal, reason = (dig(document, f"exit.{name}") for name in ("code", "signal", "reason"))
    words = [f"exit code {code}" + (f" ({signal})" if signal else "")] if code is not None else []
    if reason:
        words.append(str(reason))
    return ", ".join(words)
