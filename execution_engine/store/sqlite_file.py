"""The one connection of a process to the embedded database's file, opened when it is needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine.errors import StoreUnavailable
from execution_engine.store.sqlite_database import (
    explained,
    file_identity,
    files_beside,
    open_database,
    refuse_if_unsafe,
    refuse_without_log,
    transaction,
)


class DatabaseFile:
    """Once it was opened, only that very file is used: one that is gone, or in whose place another is, is unavailable."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self.identity = ""
        """which file it is; empty until it was opened"""
        self._beside: dict[Path, str] = {}
        """which files of SQLite's own are beside it, while it is open"""
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
        self.identity, self._beside = "", {}

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection; SQLite's errors become ours."""
        with explained(self.path):
            yield self._connected()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, in a transaction that waits for other writers first.  Nothing is confirmed that went to a file which is
        gone."""
        with explained(self.path):
            with transaction(self._connected()) as connection:
                yield connection
            self._check_beside()

    def _connected(self, *, create: bool = False) -> sqlite3.Connection:
        """Raises StoreUnavailable when the file is gone, or is another than the one that was opened."""
        self._check_identity()
        self._check_beside()
        if self._connection is None:
            refuse_without_log(self.path)
            connection = open_database(self.path, self._busy_timeout, create=create and not self.identity)
            try:
                self._check_identity()
            except BaseException:
                connection.close()
                raise
            self._connection, self.identity = connection, file_identity(self.path)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # SQLite makes its files when it reads
            self._beside = {beside: found for beside in files_beside(self.path) if (found := file_identity(beside))}
        return self._connection

    def _check_identity(self) -> None:
        found = file_identity(self.path)
        if not self.identity or found == self.identity:
            return
        what = "was replaced: it is another file than the one in use" if found else "is gone"
        raise StoreUnavailable(f"the database {self.path} {what}; put that back, or go on without its jobs: `execd restart`")

    def _check_beside(self) -> None:
        for path, identity in self._beside.items():
            if (found := file_identity(path)) != identity:
                what = "was replaced" if found else "is gone"
                raise StoreUnavailable(
                    f"the database {self.path}: {path.name} {what} while it is in use: nothing can be confirmed; "
                    "put it back, or `execd restart`, which saves what the engine still holds of it"
                )
