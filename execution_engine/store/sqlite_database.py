"""The embedded database's file: opened, made, written in transactions; SQLite's errors in words that help."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from execution_engine import events
from execution_engine.config.safety import of_database
from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.store.sqlite_schema import SCHEMAS, VERSION
from execution_engine.users import as_user, closed_to_others, name_of, nearest

_PASSING = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; find out which (`fuser`)",
    sqlite3.SQLITE_LOCKED: "it is locked; it is tried again",
    sqlite3.SQLITE_FULL: "the disk is full; make room on the file system of its directory",
    sqlite3.SQLITE_IOERR: "reading or writing failed; look at the disk and the kernel's log",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the daemon's user must be allowed to write in its directory",
    sqlite3.SQLITE_READONLY: "it cannot be written; the daemon's user must be allowed to write the file and its directory",
    sqlite3.SQLITE_PERM: "it cannot be opened; the daemon's user must be allowed to read and write it",
}
_REFUSED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
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
        if code == sqlite3.SQLITE_IOERR and _is_full(path):
            code = sqlite3.SQLITE_FULL  # the index of its log finds no room: SQLite calls that an error of the disk
        if code in _PASSING:
            raise StoreUnavailable(f"the database {path}: {_PASSING[code]}{_whose(path, code)} ({error})") from error
        raise StoreError(f"the database {path}: {_LASTING.get(code, 'SQLite refused an operation')} ({error})") from error
    except OSError as error:
        whose = _whose(path) if isinstance(error, PermissionError) else ""
        raise StoreUnavailable(
            f"the database {path}: {error.strerror or error}; the daemon's user must be allowed to use it{whose}"
        ) from error


def _is_full(path: Path) -> bool:
    try:
        space = os.statvfs(path.parent)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < _LEAST_ROOM


def _whose(path: Path, code: int = sqlite3.SQLITE_PERM) -> str:
    """What else to do if another user owns what could not be opened."""
    place, owner = nearest(path)
    if code not in _REFUSED or owner == os.geteuid():
        return ""
    return f"; {place} belongs to user {name_of(owner)}: {as_user(owner)}"


def file_identity(path: Path) -> str:
    """Which file this is, whatever its name: nothing for one that is not there.  Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def files_beside(path: Path) -> tuple[Path, Path]:
    """SQLite's write-ahead log, and the index of it that its processes share: there while the database is in use."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def refuse_without_log(path: Path) -> None:
    """Raises StoreUnavailable for a database that another process uses, and whose log is gone.

    SQLite would begin a new one, which the other, when it ends, would take away with all that is in it.
    """
    log, _ = files_beside(path)
    for attempt in range(_LOOKS):
        if file_identity(log) or not (users := _users(path)):
            return
        if attempt + 1 < _LOOKS:
            time.sleep(_GLANCE)  # it may be opening or closing it just now
    raise StoreUnavailable(
        f"the database {path}: {log.name} is gone while process {min(users)} uses it; put it back, or end what uses the database "
        "(`execd restart`), which saves what it still holds of it"
    )


def _users(path: Path) -> set[int]:
    """The other processes that have the database open, by their locks on it, as far as the kernel tells."""
    try:
        locks, file = _LOCKS.read_text(), path.stat()
    except OSError:
        return set()
    words = (line.split() for line in locks.splitlines())
    holders = {(int(each[4]), each[5]) for each in words if len(each) == 8 and each[1] == "POSIX" and _is_of(each, file.st_ino)}
    return {pid for pid, place in holders if pid != os.getpid() and _has_open(pid, place, file)}


def _is_of(lock: list[str], inode: int) -> bool:
    return lock[5].endswith(f":{inode}") and lock[6] == _SHARED_BYTES and lock[4].isdigit()


def _has_open(pid: int, place: str, file: os.stat_result) -> bool:
    """Whether a lock on a file of this inode's number is one on this very file: other file systems have the number too.

    The device in a lock's `place` is not always the one that a file says it is on; it is believed where nothing else can be seen.
    """
    try:
        descriptors = [*Path(f"/proc/{pid}/fd").iterdir()]
    except PermissionError:
        return place.startswith(f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:")
    except OSError:
        return False
    return any(_is_same(descriptor, file) for descriptor in descriptors)


def _is_same(descriptor: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), file)
    except OSError:
        return False


_LOCKS = Path("/proc/locks")
_LOOKS, _GLANCE = 5, 0.05
_LEAST_ROOM = 1 << 20
"""Bytes: with less, SQLite finds no room for what it makes beside the file."""
_LARGEST_LOG = 64 << 20
"""Bytes that the log keeps on the disk when all of it is in the database."""
_SHARED_BYTES = str(0x40000002)
"""Where SQLite locks a database file for as long as a connection to it is open."""


def open_database(path: Path, busy_timeout: float, *, create: bool) -> sqlite3.Connection:
    """A connection to the file, which, with `create`, is made, for its owner only, when it is not there.

    It waits up to `busy_timeout` seconds for other writers.  Raises sqlite3.Error, OSError, and StoreError for a file that is not
    there, or not for this version of execd; with `create`, an older one is brought up to date.
    """
    if create:
        _make(path)
    elif not file_identity(path):
        raise _nothing_yet(path)
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", timeout=busy_timeout, isolation_level=None, uri=True)
    try:
        _prepare(connection, path, create=create)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Makes the file where there is none."""
    with closed_to_others():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_if_unsafe(path)  # again: somebody may have made the directory meanwhile
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def refuse_if_unsafe(path: Path) -> None:
    """Raises StoreError when somebody else could change the database."""
    if wrong := of_database(path):
        raise StoreError(f"the database {path} is not used, because {wrong}")


def _nothing_yet(path: Path) -> StoreError:
    return StoreError(
        f"there is no database yet: {path}; `execd start` or the first `execd submit` makes it; "
        "if there was one, put that back: a new one has none of its jobs"
    )


def _prepare(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    if not create and _version(connection) == 0 and _is_empty(connection):
        raise _nothing_yet(path)  # somebody is making it just now
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_LOG}")
    if _version(connection) != VERSION:
        with transaction(connection):
            made = _migrate(connection, path, create=create)
        if made:
            events.emit("database.made", path=str(path))


def _migrate(connection: sqlite3.Connection, path: Path, *, create: bool) -> bool:
    """Whether there was nothing before.  Not by one that only asks: an older engine may work with it, whose next process could
    not open it any more."""
    version = _version(connection)
    if version == VERSION:
        return False
    if version > VERSION:
        raise StoreError(
            f"the database {path} was written by a newer execd (schema {version}, this one knows {VERSION}); update execd"
        )
    if version == 0 and not _is_empty(connection):
        raise StoreError(f"the database {path} belongs to another program; let database.url name a file of execd's own")
    if not create:
        raise StoreError(
            f"the database {path} was written by an older execd (schema {version}, this one needs {VERSION}); "
            "`execd restart` brings it up to date"
        )
    if version:
        events.emit("database.upgrade", path=str(path), old=version, new=VERSION)
    for schema in SCHEMAS[version:]:
        for statement in schema.split(";\n"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return version == 0


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


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
