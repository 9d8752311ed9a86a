"""What is wrong with a job's document, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def problems_of(error: ValidationError, known: Mapping[str, Collection[str]] | None = None) -> list[str]:
    """A line for each bad field: where, what is wrong, what was found.  `known`: by the field above, which may be in it."""
    lines: dict[str, str] = {}
    for entry in _to_the_point(error.errors(include_url=False, include_context=False)):
        location = _location(entry["loc"])
        message = _EXPECTED.get(entry["type"]) or entry["msg"].removeprefix("Value error, ")
        if not location or location == "_id":
            lines.setdefault(message, message)
        elif entry["type"] == "missing":
            lines.setdefault(location, f"{location}: missing")
        elif entry["type"] == "extra_forbidden":
            above, _, name = location.rpartition(".")
            close = difflib.get_close_matches(name, (known or {}).get(above, ()), n=1, cutoff=0.6)
            lines[location] = f"{location}: {message}" + (f"; did you mean {above}.{close[0]}?" if close else "")
        else:
            found = repr(entry["input"])
            found = found if len(found) <= 80 else found[:77] + "..."
            text = f"{location}: {message}, found {found}"
            lines[location] = f"{lines[location]}, or {message}" if location in lines else text
    return list(lines.values())


def _to_the_point(entries: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what the other kinds of a field say of a list or a document in which its own kind has found what is wrong."""
    places = [_location(entry["loc"]) for entry in entries]
    return [
        entry
        for entry, place in zip(entries, places, strict=True)
        if not (isinstance(entry["input"], list | tuple | dict) and any(other.startswith(f"{place}.") for other in places))
    ]


_EXPECTED = {
    "tuple_type": "expected a list",
    "dict_type": "expected a document",
    "string_type": "expected a string",
    "bytes_type": "expected bytes",
    "datetime_type": "expected a date",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "model_type": "expected a document",
    "extra_forbidden": "no such field",
}
_UNION_BRANCH = re.compile(r"(function-|tuple\[|Source$|str$|bytes$|bool$|dict\[|constrained)")


def _location(path: tuple[int | str, ...]) -> str:
    """`resources.memory`, `inputs.a.txt`; without the names that pydantic gives to the branches of a union."""
    return ".".join(str(part) for part in path if not (isinstance(part, str) and _UNION_BRANCH.match(part)))
