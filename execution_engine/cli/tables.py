"""Tables: for people at a terminal, and for files and pipes; as long as you like, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from execution_engine.cli.output import harmless, on_terminal
from execution_engine.jobs.status import Status

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Row = Sequence[str]

_STYLES: dict[str, str] = {
    Status.FINISHED: "green",
    Status.ERROR: "red",
    Status.KILLED: "magenta",
    Status.RUNNING: "cyan",
    Status.UNKNOWN: "yellow",
    Status.HOLD: "yellow",
    Status.SUSPENDED: "yellow",
}
_WHOLE = frozenset({"ID", "STATUS", "TIME"})
_CUT = frozenset({"NAME", "OWNER", "PROJECT", "SYSTEM", "CREATED", "EXIT"})
_AT_A_TIME = 200
"""Rows: the first of them decide how wide the columns of a long table are."""


def print_table(columns: Row, rows: Iterable[Row]) -> None:
    """Prints a table: for people on a terminal; else aligned columns, a line a row, nothing cut, `-` for what is empty."""
    batches = _batches(iter(rows))
    if on_terminal():
        from rich.console import Console

        for batch in batches:
            Console().print(rich_table(columns, batch))
        return
    widths: list[int] = []
    for batch in batches:
        lines = [[harmless(cell) or "-" for cell in row] for row in batch]
        if not widths:
            lines = [list(columns), *lines]
            widths = [max(width_of(line[i]) for line in lines) for i in range(len(columns))]
        click.echo("\n".join("  ".join(map(_padded, line, widths)).rstrip() for line in lines))


def print_section(title: str, columns: Row, rows: Sequence[Row]) -> None:
    """Prints a table under a title; nothing when it is empty."""
    if rows:
        click.echo(f"\n{title}")
        print_table(columns, rows)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """The rows, some at a time; one empty batch where there are none."""
    batch = list(islice(rows, _AT_A_TIME))
    yield batch
    while len(batch) == _AT_A_TIME and (batch := list(islice(rows, _AT_A_TIME))):
        yield batch


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes: a character of East Asia takes two, a combining one none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, longest: int) -> str:
    """The text, or as much of its beginning as has room in so many columns with `…`."""
    if len(text) * 2 <= longest or width_of(text) <= longest:
        return text
    text = text[:longest]
    while width_of(text) > longest - 1:
        text = text[:-1]
    return text + "…"


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - width_of(cell))


def rich_table(columns: Row, rows: Iterable[Row]) -> Table:
    """A table whose cells are plain text: markup in them is not interpreted.

    The columns of _WHOLE are never narrower than their text (an id is to be copied); what is too long in those of _CUT ends in
    `…`, and is folded in all others.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    cut = [column in _CUT for column in columns]
    for column, one in zip(columns, cut, strict=True):
        table.add_column(_cell(column, cut=one), overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        table.add_row(*(_cell(cell, cut=one) for cell, one in zip(row, cut, strict=True)))
    return table


def _cell(cell: str, *, cut: bool) -> Text:
    from rich.text import Text

    return Text(harmless(cell), style=_STYLES.get(cell, ""), no_wrap=cut or None, overflow="ellipsis" if cut else None)
