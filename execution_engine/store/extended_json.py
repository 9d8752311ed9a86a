"""Documents as text and back: MongoDB's extended JSON.

`bson.json_util` does it for every type, slowly.  What occurs in every job (strings, numbers, dates, ids) takes a shorter way
here to the same text.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from execution_engine.errors import StoreError

READING: dict[str, Any] = {
    "tz_aware": True,
    "tzinfo": UTC,
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
}
"""How BSON becomes Python: dates aware; what Python cannot hold (the year 20000) leaves a document readable."""

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(**READING)
_OPTIONS = json_util.JSONOptions(
    json_mode=json_util.JSONMode.LEGACY,
    strict_number_long=True,
    datetime_representation=json_util.DatetimeRepresentation.ISO8601,
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_PLAIN = frozenset({str, int, float, bool, type(None)})


def as_bson_holds_it(document: dict[str, Any]) -> dict[str, Any]:
    """The document as a MongoDB would give it back.  Raises StoreError when it holds what BSON cannot."""
    try:
        return bson.decode(bson.encode(document), _CODEC)
    except (bson.errors.BSONError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"a job document cannot be stored: {error}") from None


def write_any(value: Any) -> str:
    """The text of any BSON value.  Raises StoreError for keys that would be read back as something else (`{"$date": "x"}`)."""
    text = write(value) if _is_plain(value) else _dumps(value)
    if '"$' in text:
        try:
            same = _dumps(read(text)) == text
        except UNREADABLE:
            same = False
        if not same:
            raise StoreError("a job document cannot be stored: a field whose name begins with $ is not valid extended JSON")
    return text


def _is_plain(value: Any) -> bool:
    """Whether there is nothing in it but JSON's own types.  Their subclasses may be other types of BSON."""
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _dumps(value: Any) -> str:
    return json_util.dumps(value, json_options=_OPTIONS, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _text_of(moment: datetime) -> str:
    """Kept, for the jobs of a batch have most of their dates in common, and each is written again at every step of a job."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shorten(value: Any) -> Any:
    if type(value) is datetime:
        return {"$date": _text_of(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))}
    return json_util.default(value, _OPTIONS)


write = json.JSONEncoder(default=_shorten, ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
"""The text of a value that the engine made: `write_any`, but quick, for the types that the engine uses."""


def _restore(found: dict[str, Any]) -> Any:
    for key in found:
        if not key.startswith("$"):
            return found
        if key == "$date" and type(found[key]) is str:
            return datetime.fromisoformat(found[key])
        return json_util.object_hook(found, _OPTIONS)
    return found


read = json.JSONDecoder(object_hook=_restore).decode
"""The value of a text.  Raises one of UNREADABLE for what is no such text."""

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, bson.errors.BSONError)


def id_text(job_id: Any) -> str:
    """One text for one id, whatever its type; numbers that are equal have the same."""
    try:
        return write(job_id)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{job_id!r} cannot be the id of a job: {error}") from None
