"""What an engine tells about itself: small files in its run directory, each replaced as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE = "state.json"
"""what `execd status` shows; written by the monitor"""
ENGINE = "engine.json"
"""the boot id of the engine that ran here last, by which the next one finds the leases that it left"""

MONITOR = "monitor.json"
"""why there is no monitor that works: an outage, as those in STATE; written by the master, and removed when there is one again"""


def of_engine(run_dir: Path) -> dict[str, Any]:
    """What the engine tells of itself: its monitor, or its master where the monitor cannot."""
    content, trouble = read(run_dir, STATE), read(run_dir, MONITOR)
    return {**content, "outages": [*content.get("outages", ()), trouble]} if trouble else content


def write(run_dir: Path, name: str, content: dict[str, Any]) -> None:
    """Replaces the file."""
    temporary = run_dir / f".{name}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(content, file, default=str)
    temporary.replace(run_dir / name)


def read(run_dir: Path, name: str) -> dict[str, Any]:
    """The content, or an empty one where there is none (no engine has run here, or a full disk cut it short)."""
    try:
        content = json.loads((run_dir / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
