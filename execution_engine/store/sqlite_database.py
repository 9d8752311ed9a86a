"""The embedded database's file: opened, made, written in transactions; SQLite's errors in words that help."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.store.sqlite_schema import SCHEMA, VERSION

_PASSING = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; find out which (`fuser`)",
    sqlite3.SQLITE_LOCKED: "it is locked; it is tried again",
    sqlite3.SQLITE_FULL: "the disk is full; make room there",
    sqlite3.SQLITE_IOERR: "reading or writing failed; look at the disk and the kernel's log",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the daemon's user must be allowed to write in its directory",
    sqlite3.SQLITE_READONLY: "it cannot be written; the daemon's user must be allowed to write the file and its directory",
    sqlite3.SQLITE_PERM: "it cannot be opened; the daemon's user must be allowed to read and write it",
}
_LASTING = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; does database.url name the right file?",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it from a backup, or save what can be with `sqlite3 FILE .recover`",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors become StoreUnavailable (it may pass) or StoreError (it will not), with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _PASSING:
            raise StoreUnavailable(f"the database {path}: {_PASSING[code]} ({error})") from error
        raise StoreError(f"the database {path}: {_LASTING.get(code, 'SQLite refused an operation')} ({error})") from error
    except OSError as error:
        raise StoreUnavailable(
            f"the database {path}: {error.strerror or error}; the daemon's user must be allowed to use it"
        ) from error


def open_database(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """A connection to the file, which is made, for its owner only, when it is not there.

    It waits up to `busy_timeout` seconds for other writers.  Raises sqlite3.Error, OSError, and StoreError for a file that is not
    for this version of execd.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if _version(connection) != VERSION:
        with transaction(connection):
            _migrate(connection, path)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version == VERSION:
        return
    if version > VERSION:
        raise StoreError(
            f"the database {path} was written by a newer execd (schema {version}, this one knows {VERSION}); update execd"
        )
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError(f"the database {path} belongs to another program; let database.url name a file of execd's own")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing; waits for other writers first."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
