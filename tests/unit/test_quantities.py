"""Durations and sizes: what people write, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_engine.quantities import format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("2s", 2),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1:30:00", 5400),
        ("1.5d", 129600),
        ("7", 7),
        (0, 0),
        (2.5, 2.5),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2G", 2 << 30), ("1.5 KiB", 1536), ("2gb", 2 << 30), ("17", 17), (1e3, 1000)]
)
def test_sizes_are_read(text: str | float, size: int) -> None:
    assert parse_size(text) == size


def test_the_largest_quantities_are_what_every_database_calendar_and_drm_can_hold() -> None:
    assert parse_duration(2**31 - 1) == 2**31 - 1
    assert parse_size(2**63 - 1) == 2**63 - 1
    for long in (2.0**31, 1e300, "99999999999", "5000w"):
        with pytest.raises(ValueError, match=r"is too long; expected at most 2147483647 s \(68 years\)"):
            parse_duration(long)
    for large in (2.0**63, 2**63, 1e300, "8192P"):
        with pytest.raises(ValueError, match=r"is too large; expected less than 8192P"):
            parse_size(large)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "soon",
        "-1",
        -1,
        True,
        None,
        "1x",
        "2s2",
        float("nan"),
        float("inf"),
        10**400,
        "9" * 400 + "G",
        "9" * 400 + "s",
        "9" * 400,
    ],
)
def test_what_is_no_finite_quantity_is_a_value_error(wrong: str | float) -> None:
    for parse in (parse_duration, parse_size):
        with pytest.raises(ValueError, match=r"is not a|must be"):
            parse(wrong)


@given(st.floats(min_value=0, max_value=10_000_000))
def test_a_duration_as_it_is_shown_can_be_read_again(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=3600 if seconds >= 86400 - 1 else 60, rel=0.01)
