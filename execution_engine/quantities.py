"""Durations and sizes as people write them: `2s`, `1h30m`, `100ms`, `512M`, `2G`."""

from __future__ import annotations

import re
import sys

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_CLOCK_TIME = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_LONGEST, _LARGEST = (1 << 31) - 1, (1 << 63) - 1
"""What every database, calendar and DRM can hold: 68 years, and 8 EiB."""
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def parse_duration(text: str | float) -> float:
    """Seconds of a duration: `2s`, `1h30m`, `1:30:00`, or a plain number of seconds.

    Raises ValueError with what was expected.
    """
    return _at_most(_seconds(text), _LONGEST, f"{text!r} is too long; expected at most {_LONGEST} s (68 years)")


def _seconds(text: str | float) -> float:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return _not_negative(text, text)
    stripped = str(text).strip()
    if clock_time := _CLOCK_TIME.fullmatch(stripped):
        hours, minutes, seconds = (int(part) for part in clock_time.groups())
        return _not_negative(hours * 3600 + minutes * 60 + seconds, text)
    parts = _DURATION_PART.findall(stripped)
    if parts and _DURATION_PART.sub("", stripped).strip() == "":
        return _not_negative(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts), text)
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return _not_negative(float(stripped), text)
    raise ValueError(f"{text!r} is not a duration; expected for example 100ms, 2s, 1h30m or 1:30:00")


def parse_size(text: str | float) -> int:
    """Bytes of a size: `512M`, `2G`, `1.5T` (powers of 1,024), or a plain number of bytes.

    Raises ValueError with what was expected.
    """
    return int(_at_most(_bytes(text), _LARGEST, f"{text!r} is too large; expected less than 8192P (8 EiB)"))


def _bytes(text: str | float) -> float:
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= _LARGEST:
        return text  # as exact as it was given
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return _not_negative(text, text)
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; expected for example 512M or 2G")
    number, unit = match.groups()
    return _not_negative(float(number) * _SIZE_UNITS[unit.upper()], text)


def format_duration(seconds: float) -> str:
    """A duration for a person: `0.25s`, `42s`, `1h30m`, `2d03h`."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{secs:02}s" if minutes else f"{secs}s"


def format_size(size: int) -> str:
    """A size for a person: `17`, `512K`, `1.5G`."""
    amount = float(size)
    for unit in ("", "K", "M", "G", "T"):
        if amount < 1024:
            return f"{amount:.0f}{unit}" if amount >= 10 or not unit else f"{amount:.1f}".rstrip("0").rstrip(".") + unit
        amount /= 1024
    return f"{amount:.1f}P"


def _not_negative(number: float, text: object) -> float:
    if not 0 <= number <= sys.float_info.max:
        raise ValueError(f"{text!r} must be a finite number, 0 or more")
    return float(number)


def _at_most(number: float, most: int, otherwise: str) -> float:
    if number > most:
        raise ValueError(otherwise)
    return number
