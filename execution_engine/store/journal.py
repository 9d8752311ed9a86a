"""The journal: what the engines did by themselves, kept in the database for `execd events`, and bounded by age."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that was kept."""

    at: datetime
    event: str
    """its name, such as `monitor.died`"""
    engine: str
    """boot id of the engine that it happened to; empty where none was known yet"""
    jobs: tuple[str, ...]
    """text ids of the jobs concerned"""
    facts: Mapping[str, Any]
    """what else the event says, values that JSON can hold"""
    id: str
    """unique, so that an entry whose answer was lost can be stored again; of two of one moment the greater is the later"""


class Journal(ABC):
    """The entries.  Methods raise StoreUnavailable and StoreError as those of JobStore do."""

    @abstractmethod
    def append(self, entries: Sequence[Entry]) -> None:
        """Stores entries, in one round trip; those that are there already stay as they are."""

    @abstractmethod
    def select(
        self, job: str | None = None, since: datetime | None = None, limit: int = 0, events: Collection[str] = ()
    ) -> list[Entry]:
        """The latest `limit` entries (0: all), the oldest first: of this job (its text id), at or after this moment, of
        these names."""

    @abstractmethod
    def expire(self, before: datetime, limit: int) -> int:
        """Removes the oldest entries from before this moment, at most `limit`; returns how many there were."""
