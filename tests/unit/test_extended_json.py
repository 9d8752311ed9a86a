"""The text of documents: what execd writes in a shorter way is what `bson.json_util` would have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Binary, Code, Int64, ObjectId, json_util
from hypothesis import given
from hypothesis import strategies as st

from execution_engine.errors import StoreError
from execution_engine.store import extended_json
from execution_engine.store.extended_json import as_bson_holds_it, read, write, write_any

_TEXTS = st.text('a."\\/ü\u2028\x01\x7f😀$', max_size=5)
_PLAIN = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | _TEXTS
_RARE = st.sampled_from([Int64(5), Code("f()"), b"\x00", Binary(b"x" * 16, 4), ObjectId("65f000000000000000000001")])
_DATES = st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC))
_NAMES = _TEXTS.filter(lambda name: not name.startswith("$"))
DOCUMENTS = st.dictionaries(
    _NAMES, st.recursive(_PLAIN | _RARE | _DATES, lambda inner: st.lists(inner) | st.dictionaries(_NAMES, inner), max_leaves=10)
)


def as_json_util_writes(value: Any) -> str:
    return json_util.dumps(value, json_options=extended_json._OPTIONS, ensure_ascii=False, separators=(",", ":"))


@given(DOCUMENTS)
def test_any_document_is_written_as_json_util_writes_it(document: dict[str, Any]) -> None:
    held = as_bson_holds_it(document)
    assert write_any(held) == as_json_util_writes(held)
    assert as_json_util_writes(read(write_any(held))) == write_any(held)


@pytest.mark.parametrize("value", [{"$date": "x"}, [{"deep": {"$oid": "5"}}], {"a": [{"$numberLong": "x", "b": 1}]}], ids=repr)
def test_plain_values_that_would_be_read_back_as_something_else_are_refused(value: Any) -> None:
    with pytest.raises(StoreError, match="begins with \\$"):
        write_any(value)


@given(_DATES, st.integers(-23, 23))
def test_one_moment_has_one_text_whatever_its_zone(moment: datetime, hours: int) -> None:
    text = '{"$date":"' + moment.strftime("%Y-%m-%dT%H:%M:%S") + f'.{moment.microsecond // 1000:03}Z"}}'
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert write(elsewhere) == write(moment) == write(moment.replace(tzinfo=None)) == text
    assert read(text) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
