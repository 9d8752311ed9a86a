"""The databases of a storm, which can be taken away and given back."""

from __future__ import annotations

import random
import sqlite3
import threading
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

from execution_engine.config import Database
from tests.support.databases import MongoServer, server_program


class Fragile(ABC):
    """A database that may be out of reach for a while."""

    pace = 1.0
    """how slow it is: leases and deadlines of the engines are multiplied by it"""

    def __init__(self) -> None:
        self.away = ""
        """how it was taken away; empty while it is there"""
        self._giving = threading.Lock()

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The `database` section of an engine's configuration."""

    @abstractmethod
    def take_away(self, chance: random.Random) -> None:
        """Makes it unreachable."""

    def give_back(self) -> None:
        """Undoes that; harmless when it is there, and in any thread."""
        with self._giving:
            if self.away:
                self._give_back()
            self.away = ""

    @abstractmethod
    def _give_back(self) -> None:
        """Makes it reachable again."""

    @abstractmethod
    def problems(self) -> list[str]:
        """What is wrong with it after all engines have ended."""

    def end(self) -> None:
        """Ends what belongs to it.  Harmless when repeated."""


class File(Fragile):
    """SQLite: the directory of the file (with its log) is moved elsewhere, or somebody keeps it locked."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._place, self._elsewhere = directory / "database", directory / "elsewhere"
        self._place.mkdir()
        self._file = self._place / "execd.db"
        self._lock: sqlite3.Connection | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self._file}"}

    def take_away(self, chance: random.Random) -> None:
        self.away = chance.choice(["moved", "locked"])
        if self.away == "moved":
            self._place.rename(self._elsewhere)
            return
        self._lock = sqlite3.connect(self._file, isolation_level=None, timeout=30, check_same_thread=False)
        self._lock.execute("BEGIN EXCLUSIVE")

    def _give_back(self) -> None:
        if self._lock is None:
            self._elsewhere.rename(self._place)
            return
        self._lock.close()
        self._lock = None

    def problems(self) -> list[str]:
        with closing(sqlite3.connect(self._file, isolation_level=None, timeout=1)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                return [f"somebody still holds the database: {error}"]
            (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        return [] if answer == "ok" else [f"the database is damaged: {answer}"]


class Server(Fragile):
    """A MongoDB-speaking server, which is killed and started again."""

    def __init__(self) -> None:
        super().__init__()
        program = server_program()
        if program is None:
            raise SystemExit("there is no MongoDB-speaking server here: tests/testbed/mongodb/build makes one")
        self.pace = 5.0 if Path(program).name == "ferretdb" else 2.0
        self._server = MongoServer(program)
        self._give_back()

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": self._server.url, "name": "chaos", "timeout": "5s"}

    def take_away(self, chance: random.Random) -> None:  # noqa: ARG002 - there is one way only
        self.away = "killed"
        self._server.stop()

    def _give_back(self) -> None:
        self._server.start()

    def problems(self) -> list[str]:
        return []

    def end(self) -> None:
        self._server.end()


def database(kind: str, directory: Path) -> Fragile:
    """`sqlite` or `mongodb`."""
    return File(directory) if kind == "sqlite" else Server()


def config(fragile: Fragile) -> Database:
    """As the engines see it."""
    return Database.model_validate(fragile.settings)
