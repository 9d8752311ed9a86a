"""How a line of the log looks: for a person, or as JSON for a machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from execution_engine.events import Record
from execution_engine.logger.wording import Level, escaped

_JSON = json.JSONEncoder(default=str)
_SHOWN = {Level.DEBUG: "DEBUG", Level.INFO: "INFO ", Level.WARNING: "WARN ", Level.ERROR: "ERROR"}
_COLOURS = {Level.DEBUG: "2", Level.INFO: "32", Level.WARNING: "33", Level.ERROR: "1;31"}


def human(record: Record, level: Level, text: str, *, colour: bool = False) -> str:
    """`2026-11-20 16:04:05.123Z INFO  monitor[123] …`; a traceback follows, each of its lines indented and marked."""
    shown = f"\x1b[{_COLOURS[level]}m{_SHOWN[level]}\x1b[0m" if colour else _SHOWN[level]
    process = escaped(str(record.get("process", "?")).removeprefix("execd: "))
    line = (
        f"{_moment(record).isoformat(' ', 'milliseconds')[:23]}Z {shown} {process}[{escaped(str(record.get('pid', '?')))}] {text}"
    )
    traceback = str(record.get("traceback") or "").rstrip("\n")
    return line + "".join(f"\n    | {escaped(part)}" for part in traceback.split("\n")) if traceback else line


def as_json(record: Record, level: Level, text: str) -> str:
    """The record itself with `time`, `level` and `message`, in one line of ASCII."""
    told = {"time": f"{_moment(record).isoformat(timespec='milliseconds')[:23]}Z", "level": level.name.lower(), "message": text}
    return _JSON.encode({**record, **told})


def _moment(record: Record) -> datetime:
    try:
        return datetime.fromtimestamp(record["at"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return datetime.now(UTC)
