"""What all benchmarks share: figures of several runs, the table and the JSON that they become, the machine they were made on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CONSOLE = Console()


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, with its value in each run."""

    name: str
    unit: str
    values: tuple[float, ...]
    group: str = ""
    """the rows of a table that belong together"""
    goal: str = ""
    """what it must reach, for people"""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one benchmark.  What is missing, and why, is in `notes`."""

    benchmark: str
    settings: dict[str, Any]
    figures: list[Figure]
    notes: list[str] = field(default_factory=list)

    def show(self) -> None:
        """Prints the figures as a table."""
        CONSOLE.print(f"{self.benchmark}: " + ", ".join(f"{name} {value}" for name, value in self.settings.items()))
        table = Table()
        table.add_column("")
        table.add_column("")
        for column in ("median", "min", "max"):
            table.add_column(column, justify="right")
        table.add_column("unit")
        table.add_column("goal")
        group = ""
        for figure in self.figures:
            if figure.group != group:
                table.add_section()
            numbers = (shown(number) for number in (figure.median, min(figure.values), max(figure.values)))
            table.add_row(figure.group if figure.group != group else "", figure.name, *numbers, figure.unit, figure.goal)
            group = figure.group
        CONSOLE.print(table)
        for note in self.notes:
            CONSOLE.print(note)

    def write(self, file: Path) -> None:
        """Writes all values, with what they were measured on, as JSON."""
        content = {"machine": machine(), "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        file.write_text(json.dumps({**asdict(self), **content}, indent=1) + "\n")

    def finish(self, file: Path | None) -> None:
        """Shows it, and writes it if a file is given."""
        self.show()
        if file is not None:
            self.write(file)


def shown(number: float) -> str:
    """A number with as many digits as tell something."""
    if abs(number) >= 100 or abs(number) < 0.0005:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.3g}"


def figures(group: str, units: dict[str, str], runs: Sequence[dict[str, float]]) -> list[Figure]:
    """The figures of runs that each gave a value for these names; a name that a run does not have was 0 in it."""
    return [Figure(name, unit, tuple(run.get(name, 0.0) for run in runs), group) for name, unit in units.items()]


def machine() -> dict[str, str]:
    """What the figures depend on."""
    memory = psutil.virtual_memory().total / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{system}, Linux {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit of this checkout; with a `+` if the engine has been changed since."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "execution_engine"], cwd=ROOT, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip() + ("+" if changed else "")


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option that every benchmark has: where its report is written to."""
    file = click.Path(path_type=Path, dir_okay=False)
    return click.option("--json", "json_file", type=file, help="Write all values into this file.")(function)


def runs_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How often it is measured."""
    return click.option("--runs", default=default, show_default=True, type=click.IntRange(1), help="How often it is measured.")
