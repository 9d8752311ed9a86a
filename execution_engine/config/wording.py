"""What pydantic found wrong, in words for an administrator: what is expected, what was found, what was perhaps meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from execution_engine.config.places import Keys, Places

_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected keys and values",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "list_type": "expected a list",
    "model_attributes_type": "expected keys and values",
    "model_type": "expected keys and values",
    "path_type": "expected a path",
    "string_too_short": "must not be empty",
    "string_type": "expected a string",
    "too_short": "expected at least one entry",
    "tuple_type": "expected a list",
}
_SECRET = re.compile(r"(^|_)(url|key|token)$|passw|secret|credential", re.IGNORECASE)


def problems(error: ValidationError, schema: Any, places: Places, above: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Each bad key below `above`, and what is wrong with it.  `schema`: the model that refused."""
    said: dict[Keys, list[str]] = {}
    found: dict[Keys, str] = {}
    entries = error.errors(include_url=False)
    for entry in entries:
        if entry["type"] == "too_short" and any(_is_below(other["loc"], entry["loc"]) for other in entries):
            continue  # it counts the good ones alone
        keys: Keys = (*above, *entry["loc"])
        message = _message(entry, schema)
        if entry["type"] not in ("missing", "extra_forbidden"):
            keys = places.known(keys) if places.lines else keys
            if keys in places.hidden:
                message = message.replace(repr(entry["input"]), "the value")
            elif not any(_SECRET.search(str(key)) for key in keys[-1:]):
                found[keys] = _found(entry)
        said.setdefault(keys, []).append(message)
    for keys, messages in said.items():
        yield keys, ", or ".join(dict.fromkeys(messages)) + found.get(keys, "")


def _is_below(keys: tuple[int | str, ...], above: tuple[int | str, ...]) -> bool:
    return len(keys) > len(above) and keys[: len(above)] == above


def suggestion(word: str, known: Collection[str]) -> str:
    """`; did you mean …?`, or which words are known."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; expected one of {', '.join(sorted(known))}" if known else ""


def _message(entry: ErrorDetails, schema: Any) -> str:
    if entry["type"] == "missing":
        return "is missing"
    if entry["type"] == "extra_forbidden":
        return "is not a known key" + suggestion(str(entry["loc"][-1]), _known_keys(schema, entry["loc"][:-1]))
    message = _EXPECTED.get(entry["type"]) or entry["msg"]
    return re.sub(r"^(Value error|Assertion failed), ", "", message).replace("Input should be", "expected")


def _found(entry: ErrorDetails) -> str:
    """`, found …`, where the message does not say so itself."""
    value = entry["input"]
    if entry["type"] == "value_error" or entry["type"] in ("too_short", "string_too_short"):
        return ""
    if isinstance(value, dict | list | tuple):
        return ", found keys and values" if isinstance(value, dict) else ", found a list"
    if value is None:
        return ", found nothing"
    hint = " (a string needs quotes here)" if entry["type"] == "string_type" else ""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f", found {shown if len(shown) <= 80 else shown[:77] + '...'}{hint}"


def _known_keys(schema: Any, keys: Keys) -> Collection[str]:
    """The keys that may stand in the section to which `keys` lead."""
    for key in keys:
        schema = _below(schema, key)
    fields = _fields(schema)
    return fields.keys()


def _below(schema: Any, key: str | int) -> Any:
    """The type of what stands under a key."""
    if fields := _fields(schema):
        return fields.get(str(key))
    arguments = get_args(schema)
    if get_origin(schema) is dict:
        return arguments[1]
    return arguments[0] if isinstance(key, int) and arguments else None


def _fields(schema: Any) -> dict[str, Any]:
    """The types of a section's keys, by the names they have in the file."""
    if get_origin(schema) in (Union, UnionType):
        return next(filter(None, map(_fields, get_args(schema))), {})
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return {field.alias or name: field.annotation for name, field in schema.model_fields.items() if not field.exclude}
    return {}
