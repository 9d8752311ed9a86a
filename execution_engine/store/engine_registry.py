"""The registry of engines: which engines use this database, and which of them make progress.

Each engine keeps a record and counts its beats in it.  No clock of another machine is believed: an observer that saw a counter
stand still, by its own monotonic clock, for longer than that engine's lease takes the engine for dead.  To declare it dead is to
remove its record; an engine whose record is gone knows that it was taken for dead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """One engine, from one start of its monitor to the end of that process."""

    id: str
    """boot id: the first part of the owner of its leases, ENGINE/ACTOR"""
    host: str
    kernel: str
    """boot id of the kernel and process namespace: engines with the same one see each other's processes"""
    pid: int
    """of the monitor"""
    run_dir: str
    started: datetime
    lease: float
    """seconds without a beat after which it may be taken for dead"""
    lanes: tuple[str, ...]
    """the lanes whose jobs it submits and follows"""
    beats: int
    """grows while the monitor's own loop makes progress"""
    beat_at: datetime
    """by its own clock; for people only"""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> EngineRecord:
        """From what a database holds; what another version of execd added is passed over."""
        return cls(**{**{each.name: stored[each.name] for each in fields(cls)}, "lanes": tuple(stored["lanes"])})


class EngineRegistry(ABC):
    """The records.  Methods raise StoreUnavailable and StoreError as those of JobStore do."""

    @abstractmethod
    def sign_in(self, record: EngineRecord) -> None:
        """Stores the record of an engine that starts."""

    @abstractmethod
    def beat(self, record: EngineRecord) -> bool:
        """Stores the record as it is now.  False when it is not there any more: the engine was declared dead."""

    @abstractmethod
    def all(self) -> list[EngineRecord]:
        """The records of all engines that have not signed out, the longest running first; some of them may be dead."""

    @abstractmethod
    def sign_out(self, engine: str) -> None:
        """Removes the record of an engine that has ended, if it is there."""

    @abstractmethod
    def declare_dead(self, engine: str, beats: int) -> bool:
        """Removes the record if its counter is still `beats`.  Of several observers one gets True."""
