"""The one connection of a process to the embedded database's file, opened when it is needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine.errors import StoreUnavailable
from execution_engine.store.sqlite_database import explained, file_identity, open_database, refuse_if_unsafe, transaction


class DatabaseFile:
    """Once it was opened, only that very file is used: one that is gone, or in whose place another is, is unavailable."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self.identity = ""
        """which file it is; empty until it was opened"""
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None

    def open(self, *, create: bool, identity: str) -> None:
        """As JobStore.boot says."""
        self.identity = identity or self.identity
        with explained(self.path):
            if not self.identity:
                refuse_if_unsafe(self.path)
            found = file_identity(self.path)
            if create or (found and self.identity in ("", found)):
                self._connected(create=create)

    def close(self) -> None:
        """Ends the connection.  Harmless when repeated."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.identity = ""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection; SQLite's errors become ours."""
        with explained(self.path):
            yield self._connected()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, in a transaction that waits for other writers first."""
        with explained(self.path), transaction(self._connected()) as connection:
            yield connection

    def _connected(self, *, create: bool = False) -> sqlite3.Connection:
        """Raises StoreUnavailable when the file is gone, or is another than the one that was opened."""
        self._check_identity()
        if self._connection is None:
            connection = open_database(self.path, self._busy_timeout, create=create and not self.identity)
            try:
                self._check_identity()
            except BaseException:
                connection.close()
                raise
            self._connection, self.identity = connection, file_identity(self.path)
        return self._connection

    def _check_identity(self) -> None:
        found = file_identity(self.path)
        if not self.identity or found == self.identity:
            return
        what = "was replaced: it is another file than the one in use" if found else "is gone"
        raise StoreUnavailable(f"the database {self.path} {what}; put that back, or go on without its jobs: `execd restart`")
