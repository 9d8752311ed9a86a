"""RESULTS.rst, made of the JSON files that the benchmarks wrote."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.common import shown

_HERE = Path(__file__).parent
RESULTS, PAGE = _HERE / "results", _HERE / "RESULTS.rst"

_PREAMBLE = """\
Results
=======

Made by `python -m benchmarks report` of the files in `results/`, which hold every single value.  README.rst says what each
benchmark does.  Compare figures of one section only: other sections were measured at other times, when the machine had other
things to do.
"""


@click.command()
def report() -> None:
    """Make RESULTS.rst of the JSON files in results/."""
    PAGE.write_text(page())
    click.echo(f"Wrote {PAGE}")


def page() -> str:
    """The text of RESULTS.rst."""
    sections = (_section(file.stem, json.loads(file.read_text())) for file in sorted(RESULTS.glob("*.json")))
    return "\n\n".join([_PREAMBLE.rstrip(), *("\n".join(section) for section in sections)]) + "\n"


def _section(title: str, content: dict[str, Any]) -> Iterator[str]:
    yield from (title, "-" * len(title), "")
    yield from _described(content)
    yield from (".. list-table::", "   :header-rows: 1", "")
    columns = ("", "", "median", "min", "max", "unit", "goal")
    yield from _row(columns)
    group = ""
    for figure in content["figures"]:
        heading = figure["group"] if figure["group"] != group else ""
        values = figure["values"]
        numbers = (shown(number) for number in (statistics.median(values), min(values), max(values)))
        yield from _row((heading, figure["name"], *numbers, figure["unit"], figure["goal"]))
        group = figure["group"]


def _described(content: dict[str, Any]) -> Iterator[str]:
    settings = ", ".join(f"{name} {value}" for name, value in content["settings"].items())
    runs = len(content["figures"][0]["values"])
    yield from (f":measured: {runs} times; {settings}", f":machine: {'; '.join(content['machine'].values())}")
    yield from (f":commit: {content['commit']}", f":date: {content['date']}")
    if content["notes"]:
        yield f":notes: {'; '.join(content['notes'])}"
    yield ""


def _row(cells: tuple[str, ...]) -> Iterator[str]:
    """A row of a list-table."""
    for number, cell in enumerate(cells):
        yield f"   {'  ' if number else '* '}- {cell}".rstrip()
