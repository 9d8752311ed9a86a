"""From the configuration to a job store."""

from __future__ import annotations

from pathlib import Path

from execution_engine import config
from execution_engine.clock import Clock
from execution_engine.errors import ConfigError
from execution_engine.store.job_store import JobStore
from execution_engine.store.masking import masked

_SQLITE = "sqlite:///"


def open_store(database: config.Database, clock: Clock) -> JobStore:
    """The store that `database.url` names, not connected yet (`boot` does).  Raises ConfigError for a URL that names none."""
    scheme = database.url.partition(":")[0]
    if database.url.startswith(_SQLITE) and len(database.url) > len(_SQLITE):
        from execution_engine.store.sqlite import SqliteJobStore

        return SqliteJobStore(Path(database.url.removeprefix(_SQLITE)), clock)
    if scheme in ("mongodb", "mongodb+srv"):
        from execution_engine.store.mongo import MongoJobStore

        return MongoJobStore(database, clock)
    raise ConfigError(
        [
            f"database.url: {masked(database.url)!r} names no database; expected sqlite:///PATH (sqlite:////ABSOLUTE/PATH) or mongodb://…"
        ]
    )
