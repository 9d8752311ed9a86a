"""Where in the file each key stands, and the problems that are found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Keys = tuple[str | int, ...]
"""The way from the top of the file to a value: `("routes", 0, "name")`."""


@dataclass(frozen=True, slots=True)
class Places:
    """The line of each key in a configuration file."""

    file: Path
    lines: Mapping[Keys, int]
    hidden: frozenset[Keys] = frozenset()
    """keys whose values hold a `${VAR}`, perhaps a secret: no message shows them"""

    def known(self, keys: Keys) -> Keys:
        """The longest beginning of `keys` that is in the file."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return keys

    def line(self, keys: Keys) -> int:
        """The line of the key, or of the nearest one above it."""
        return self.lines.get(self.known(keys), 1)

    def of(self, keys: Keys) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.line(keys)}" if self.lines else str(self.file)


def dotted(keys: Keys) -> str:
    """The keys for a person: `routes[0].name`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def one_line(text: str) -> str:
    """The text with what would break the line, or is not seen, as Python writes it: `\\n`."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class Problems:
    """What is wrong with a file.  The first problem of a key's value is kept: later ones follow from it."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._found: dict[Keys, str] = {}
        self._unknown: dict[Keys, str] = {}

    def add(self, keys: Keys, what: str, *, unknown: bool = False) -> None:
        """Notes what is wrong with this key and what is expected.  `unknown`: with the key itself, whatever its value is."""
        (self._unknown if unknown else self._found).setdefault(keys, what)

    def __bool__(self) -> bool:
        return bool(self._found or self._unknown)

    def lines(self) -> list[str]:
        """`FILE:LINE: KEY: what is wrong`, in the order of the file."""
        in_order = sorted([*self._unknown.items(), *self._found.items()], key=lambda found: self._places.line(found[0]))
        return [one_line(": ".join(filter(None, (self._places.of(keys), dotted(keys), what)))) for keys, what in in_order]
