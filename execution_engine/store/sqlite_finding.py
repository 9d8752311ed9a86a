"""Jobs are looked for in the embedded database by what a filter says: page by page, so that nobody is kept from writing while a
reader takes its time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import islice
from typing import Any, NamedTuple

from execution_engine.jobs.job import ENGINE_FIELDS
from execution_engine.jobs.status import FINAL
from execution_engine.store import changes, extended_json
from execution_engine.store.job_store import Document, Filter
from execution_engine.store.sqlite_rows import COLUMNS, INPUTS, Row, milliseconds, value_of

_COLUMNS = ", ".join(f"jobs.{column}" for column in COLUMNS.split(", "))
_ROWS, _CHARACTERS = 500, 4 << 20
"""How large a page may become; the row that exceeds it ends it."""

_BY_COLUMNS = "5 DESC, 1 DESC"
"""The same order by the numbers of the columns, which is how SQLite merges several questions without sorting."""

Use = Callable[[], AbstractContextManager[sqlite3.Connection]]
Parameters = dict[str, Any]


def found(reading: Use, selection: Filter, limit: int, fields: Collection[str] | None) -> Iterator[Document]:
    """See JobStore.find.  `reading` gives the connection."""
    brief = _Whole() if fields is None else _Brief(fields)
    return islice(_stream(reading, _places(selection), brief), limit or None)


class _Places(NamedTuple):
    """Where jobs are found by indexes that have them by their age.  The tables have the columns `created` and `seq`.

    Several, one for each status, are read together: a job that goes from one to another keeps its place in the order of all.
    """

    tables: str
    wheres: Sequence[Sequence[str]]
    """the conditions of each"""
    parameters: Parameters


def _places(selection: Filter) -> _Places:
    """By the condition that the fewest are expected to meet."""
    given: dict[str, Any] = {
        "tag = :tag": selection.tag,
        "owner = :owner": selection.owner,
        "project = :project": selection.project,
        "system = :system": selection.system,
        "jobs.created >= :since": milliseconds(selection.since),
    }
    where = [condition for condition, value in given.items() if value is not None]
    parameters = {condition.rpartition(":")[2]: value for condition, value in given.items() if value is not None}
    statuses = sorted(set(map(str, selection.statuses)))
    by = next((name for name in ("tag", "owner", "project", "system") if name in parameters), None)
    if statuses and (by is None or FINAL.isdisjoint(statuses)):
        named = {f"status{number}": status for number, status in enumerate(statuses)}
        wheres = [[f"status = :{name}", *where] for name in named]
        return _Places(_tables("status", "tag" in parameters), wheres, {**parameters, **named})
    if statuses:
        where.append("status IN (SELECT value FROM json_each(:statuses))")
        parameters["statuses"] = extended_json.write(statuses)
    return _Places(_tables(by or "created", "tag" in parameters), [where], parameters)


def _tables(by: str, tagged: bool) -> str:
    if by == "tag":
        return "tags CROSS JOIN jobs USING (seq)"
    jobs = f"jobs INDEXED BY jobs_{by}"
    return f"{jobs} CROSS JOIN tags USING (seq)" if tagged else jobs


def _stream(reading: Use, places: _Places, brief: _Whole) -> Iterator[Document]:
    """The documents, page by page."""
    table = "tags" if places.tables.startswith("tags") else "jobs"
    order = f"{table}.created DESC, {table}.seq DESC" if len(places.wheres) == 1 else _BY_COLUMNS
    parameters, after = places.parameters, "TRUE"
    while True:
        each = [f"SELECT {brief.columns} FROM {places.tables} WHERE {' AND '.join([*where, after])}" for where in places.wheres]
        with reading() as connection:
            rows = _page(connection, f"{' UNION ALL '.join(each)} ORDER BY {order}", parameters)
        yield from map(brief.document, rows)
        if not rows:
            return
        parameters = {**places.parameters, "seq": rows[-1][0], "created": rows[-1][4]}
        after = f"({table}.created, {table}.seq) < (:created, :seq)"


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


class _Whole:
    """Documents with all their fields."""

    columns = f"{_COLUMNS}, {INPUTS}"

    def document(self, values: tuple[Any, ...]) -> Document:
        """The document of a row."""
        return Row(values[:-1]).document(values[-1])


class _Brief(_Whole):
    """Documents with some of their fields only, which SQLite picks out."""

    def __init__(self, fields: Collection[str]) -> None:
        names = changes.whole(fields)
        self._engines = [name for name in names if name.partition(".")[0] in ENGINE_FIELDS]
        self._apps = [name for name in names if name not in self._engines and name != "inputs"]
        picked = (_picked("engine", self._engines), _picked("app", self._apps), INPUTS if "inputs" in fields else "NULL")
        self.columns = ", ".join([_COLUMNS.removesuffix(", jobs.engine, jobs.app"), *picked])

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
