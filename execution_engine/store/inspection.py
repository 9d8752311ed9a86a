"""What `execd doctor` asks of a database.  Nothing on the way of a job does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from execution_engine.store.job_store import Document


class Inspection(ABC):
    """Looks at a database as a whole, in single passes that hold a few documents at a time.  Raises what a JobStore raises.

    The documents that it gives are without the app's `inputs`; changes that others make meanwhile are seen or not.
    """

    @abstractmethod
    def wrong_indexes(self) -> list[str]:
        """A line for each index of the jobs that is missing, or not what it must be."""

    @abstractmethod
    def make_indexes(self) -> None:
        """Makes those anew.  Harmless when repeated."""

    @abstractmethod
    def try_out(self, *, jobs_only: bool = False) -> None:
        """Does what an engine does: reads, writes, changes and removes a record of its own among the jobs.

        Without `jobs_only`, also among the engines and events of a server, where an index that is missing must be one that this
        user may make.

        Raises a StoreError that says what cannot be done, and what to do.
        """

    @abstractmethod
    def clock(self) -> datetime | None:
        """The database server's time; None for a database without a server."""

    @abstractmethod
    def unfinished(self) -> Iterator[Document]:
        """All jobs that have not ended, drafts among them."""

    @abstractmethod
    def without_status(self, most: int) -> int:
        """How many documents have no status that is a text, which no engine looks at; those beyond `most` are not looked for."""

    @abstractmethod
    def untold(self) -> Iterator[Document]:
        """All jobs that have ended and whose owner is still to be told."""

    @abstractmethod
    def ids(self) -> Iterator[Any]:
        """The ids of all documents."""
