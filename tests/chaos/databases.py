"""The databases of a storm, which can be taken away and given back."""

from __future__ import annotations

import random
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from execution_engine.config import Database
from tests.support.databases import MongoServer, missing, server_program
from tests.support.replica_set import ReplicaSet


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
    def take_away(self, chance: random.Random) -> str:
        """Makes it unreachable; returns how."""

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

    def take_away(self, chance: random.Random) -> str:
        self.away = chance.choice(["moved", "locked"])
        if self.away == "moved":
            self._place.rename(self._elsewhere)
            return self.away
        self._lock = sqlite3.connect(self._file, isolation_level=None, timeout=30, check_same_thread=False)
        self._lock.execute("BEGIN EXCLUSIVE")
        return self.away

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
    """A mongod, which is killed and started again."""

    pace = 2.0

    def __init__(self) -> None:
        super().__init__()
        self._server = MongoServer(_program())
        self._server.start()

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": self._server.url, "name": "chaos", "timeout": "5s"}

    def take_away(self, chance: random.Random) -> str:  # noqa: ARG002 - there is one way only
        self.away = "killed"
        self._server.stop()
        return "killed"

    def _give_back(self) -> None:
        self._server.start()

    def problems(self) -> list[str]:
        return []

    def end(self) -> None:
        self._server.end()


class Replicas(Fragile):
    """A replica set of three: the primary steps down, dies or is cut off, or nobody follows it any more."""

    pace = 3.0
    WAYS = {"stepped down": 5, "primary killed": 2, "primary cut off": 2, "no majority": 1}

    def __init__(self) -> None:
        super().__init__()
        self._set = ReplicaSet(_program())
        self._set.start()

    @property
    def settings(self) -> dict[str, Any]:
        return {"url": self._set.url, "name": "chaos", "timeout": "5s"}

    def take_away(self, chance: random.Random) -> str:
        (how,) = chance.choices(list(self.WAYS), list(self.WAYS.values()))
        self.away = how
        match how:
            case "stepped down":
                self._set.step_down(seconds=3)
            case "primary killed":
                self._set.primary().stop()
            case "primary cut off":
                self._set.primary().pause()
            case "no majority":
                for node in self._set.secondaries():
                    node.pause()
        return how

    def _give_back(self) -> None:
        self._set.mend()

    def problems(self) -> list[str]:
        return []

    def end(self) -> None:
        self._set.end()


def _program() -> str:
    program = server_program()
    if program is None:
        raise SystemExit(f"there is no MongoDB server here: {missing()}")
    return program


KINDS: dict[str, Callable[[Path], Fragile]] = {
    "sqlite": File,
    "mongodb": lambda _directory: Server(),
    "replica-set": lambda _directory: Replicas(),
}


def config(fragile: Fragile) -> Database:
    """As the engines see it."""
    return Database.model_validate(fragile.settings)
