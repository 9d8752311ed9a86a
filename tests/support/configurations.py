"""Configuration files for tests."""

from __future__ import annotations

from pathlib import Path

SMALLEST = """\
database: {url: "sqlite:///execd.db"}
jobs_dir: jobs
run_dir: run
log: {file: log/execd.log}
execution_systems:
  here: {class: Local}
routes:
  - {name: default, execution_system: here}
"""


def write(directory: Path, text: str = SMALLEST, **replaced: str) -> Path:
    """Writes a configuration file; `replaced` are top-level keys that get another value."""
    kept = text
    for key, value in replaced.items():
        kept = _without(kept, key) + f"{key}: {value}\n"
    file = directory / "execd.yaml"
    file.write_text(kept, encoding="utf-8")
    file.chmod(0o600)
    return file


def _without(text: str, key: str) -> str:
    lines: list[str] = []
    dropping = False
    for line in text.splitlines():
        if not line.startswith((" ", "-")):
            dropping = line.startswith(f"{key}:")
        if not dropping:
            lines.append(line)
    return "\n".join(lines) + "\n"
