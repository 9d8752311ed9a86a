"""Jobs are looked for in the embedded database by what a filter says: page by page, so that nobody is kept from writing while a
reader takes its time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

from execution_engine.jobs.job import ENGINE_FIELDS
from execution_engine.store import changes, extended_json
from execution_engine.store.job_store import Document, Filter
from execution_engine.store.sqlite_rows import COLUMNS, Row, milliseconds, value_of

_ROWS, _CHARACTERS = 500, 4 << 20
"""How large a page may become; the row that exceeds it ends it."""

Parameters = dict[str, Any]


def found(
    reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
    selection: Filter,
    limit: int,
    fields: Collection[str] | None,
) -> Iterator[Document]:
    """See JobStore.find.  `reading` gives the connection."""
    brief = None if fields is None else _Brief({*fields, "tags"} if selection.tag is not None else fields)
    where, parameters = _conditions(selection)
    columns = f"{COLUMNS}, inputs" if brief is None else brief.columns
    question = f"SELECT {columns} FROM jobs WHERE {where} ORDER BY created DESC, seq DESC"
    left = limit or -1
    after = ""
    while True:
        with reading() as connection:
            rows = _page(connection, question.replace("/*after*/", after), parameters)
        for values in rows:
            document = Row(values[:-1]).document(values[-1]) if brief is None else brief.document(values)
            if selection.tag is None or selection.tag in changes.tags_of(document):
                yield document
                left -= 1
                if left == 0:
                    return
        if not rows:
            return
        parameters |= {"seq": rows[-1][0], "created": rows[-1][4]}
        after = "AND (created, seq) < (:created, :seq)"


def _conditions(selection: Filter) -> tuple[str, Parameters]:
    given: dict[str, tuple[str, Any]] = {
        "status IN (SELECT value FROM json_each(:statuses))": (
            "statuses",
            extended_json.write([*selection.statuses]) if selection.statuses else None,
        ),
        "owner = :owner": ("owner", selection.owner),
        "project = :project": ("project", selection.project),
        "system = :system": ("system", selection.system),
        "created >= :since": ("since", milliseconds(selection.since)),
    }
    wanted = {condition: pair for condition, pair in given.items() if pair[1] is not None}
    return " AND ".join(["TRUE /*after*/", *wanted]), dict(wanted.values())


def _page(connection: sqlite3.Connection, question: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    with closing(connection.execute(question, parameters)) as cursor:
        for values in cursor:
            rows.append(values)
            size += sum(len(value) for value in values if isinstance(value, str))
            if len(rows) == _ROWS or size > _CHARACTERS:
                break
    return rows


class _Brief:
    """Documents with some of their fields only, which SQLite picks out."""

    def __init__(self, fields: Collection[str]) -> None:
        names = changes.whole(fields)
        self._engines = [name for name in names if name.partition(".")[0] in ENGINE_FIELDS]
        self._apps = [name for name in names if name not in self._engines and name != "inputs"]
        picked = (_picked("engine", self._engines), _picked("app", self._apps), "inputs" if "inputs" in fields else "NULL")
        self.columns = ", ".join([COLUMNS.removesuffix(", engine, app"), *picked])

    def document(self, values: tuple[Any, ...]) -> Document:
        """The document of a row."""
        *columns, engine, app, inputs = values
        return Row((*columns, _nested(engine, self._engines), _nested(app, self._apps))).document(inputs)


def _picked(column: str, names: Collection[str]) -> str:
    paths = ", ".join(f"""'$."{name.replace(".", '"."')}"'""" for name in (*names, "_id", "_id"))
    return f"CASE WHEN json_valid({column}) THEN json_extract({column}, {paths}) ELSE {column} END"


def _nested(text: str, names: Collection[str]) -> str | Document:
    """The fields of these names, where the text is a list of their values; a text that SQLite could not read stays as it is."""
    values = value_of(text)
    if not isinstance(values, list):
        return text
    result: Document = {}
    for name, value in zip(names, values, strict=False):
        if value is not None:
            *above, last = name.split(".")
            place = result
            for part in above:
                place = place.setdefault(part, {})
            place[last] = value
    return result
