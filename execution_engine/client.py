"""The Python interface for apps: submit jobs, look at them, wait for them, ask something of them.

from execution_engine.client import Client

with Client("sqlite:////var/lib/execd/execd.db") as client:
    ids = client.submit([{"command": ["sort", "words.txt"], "inputs": {"words.txt": "pear\\napple\\n"}}])
    print(client.wait(ids))
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from execution_engine import building
from execution_engine.clock import Clock, SystemClock
from execution_engine.config import Config, Database
from execution_engine.errors import ConfigError, InvalidJob, NoSuchJob, StoreUnavailable
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, REQUESTS, Status
from execution_engine.store import open_store
from execution_engine.store.job_store import Document, Filter

__all__ = ["REQUESTS", "Client", "Filter", "Status"]

"""What may be asked of the engine for a job."""

_SHORTEST_POLL, _LONGEST_POLL = 0.02, 0.5
_PATIENCE = 60.0
_DEEPEST = 99
"""Levels of documents and lists in a job: MongoDB holds 100, the job itself included."""
_BEYOND = 1 << 63
_OF_A_NEW_JOB = (Status.INIT.value, Status.TO_BE_BUILT.value)


class Client:
    """An app's connection to the jobs.  Use it in a `with` block, in one process and thread.

    `where` is a loaded configuration (`execution_engine.config.load`), a database, or a database's URL.  With a configuration the
    engine on this machine is told of new jobs and requests at once; else it finds them when it polls next, a moment later.
    Raises ConfigError for a URL that is not one of a database.
    """

    def __init__(self, where: Config | Database | str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._wake: Path | None = where.run_dir / "wake" if isinstance(where, Config) else None
        self.store = open_store(_database(where), self._clock)

    def __enter__(self) -> Self:
        self.store.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def submit(self, documents: Iterable[Document]) -> list[Any]:
        """Stores new jobs and returns their ids in order.  A job is run unless its `status` is `init` (a draft).

        An embedded database is made where there is none, but not beside a running engine: that has lost its own, and waits.
        Raises InvalidJob, which names every bad field of every document; nothing is stored then.
        """
        jobs = _checked(documents)
        if not jobs:
            return []
        self.store.boot(create=not self._engine_listens())
        ids = self.store.insert(jobs)
        self.wake()
        return ids

    def get(self, job_id: Any) -> Document:
        """The document of one job.  Raises NoSuchJob."""
        document = self.store.get(job_id)
        if document is None:
            raise NoSuchJob(f"there is no job {job_id}")
        return document

    def find(self, selection: Filter | None = None, limit: int = 0) -> list[Document]:
        """The documents that `selection` describes (default: all), the newest first, at most `limit` (0: no limit)."""
        return list(self.store.find(selection or Filter(), limit))

    def statuses(self, ids: Collection[Any]) -> dict[Any, Status]:
        """The status of each of these jobs that is there."""
        return self.store.statuses(ids)

    def request(self, ids: Collection[Any], what: str) -> list[Any]:
        """Asks one of REQUESTS for these jobs.  Returns the ids of those that have the request now; the others have ended."""
        if what not in REQUESTS:
            raise ValueError(f"{what!r} is not a request; expected one of {', '.join(REQUESTS)}")
        asked = self.store.request(ids, what)
        self.wake()
        return asked

    def wait(
        self,
        ids: Collection[Any],
        timeout: float | None = None,
        on_change: Callable[[dict[Any, Status]], None] | None = None,
    ) -> dict[Any, Status]:
        """Waits until these jobs have ended, or `timeout` seconds have passed, and returns their last known statuses.

        `on_change` is called with the statuses that are new since the last call.  A database that is out of reach is waited
        for, a minute at most: then StoreUnavailable is raised.  Raises NoSuchJob for a job that is not there.
        """
        deadline = self._clock.monotonic() + (math.inf if timeout is None else timeout)
        seen: dict[Any, Status] = {}
        waiting, interval = list(dict.fromkeys(ids)), 0.0
        while waiting:
            changed = {job: status for job, status in self._all_statuses(waiting).items() if seen.get(job) != status}
            seen |= changed
            if changed and on_change is not None:
                on_change(changed)
            waiting = [job for job in waiting if seen[job] not in FINAL]
            left = deadline - self._clock.monotonic()
            if not waiting or left <= 0:
                break
            interval = _next_interval(interval, len(waiting), changed=bool(changed))
            time.sleep(min(interval, left))
        return seen

    def wake(self) -> None:
        """Tells an engine on this machine to look now.  A hint: nothing is lost when nobody listens, the engine polls."""
        if self._wake is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knock, contextlib.suppress(OSError):
            knock.setblocking(False)
            knock.sendto(b"{}", str(self._wake))

    def _engine_listens(self) -> bool:
        """Whether an engine runs on this machine with the client's configuration."""
        if self._wake is None:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knock:
            return knock.connect_ex(str(self._wake)) == 0

    def _all_statuses(self, ids: list[Any]) -> dict[Any, Status]:
        """The status of each of these jobs, once the database answers.  Raises NoSuchJob when one is not there."""
        give_up = self._clock.monotonic() + _PATIENCE
        while True:
            try:
                statuses = self.store.statuses(ids)
                break
            except StoreUnavailable:
                if self._clock.monotonic() >= give_up:
                    raise
                time.sleep(_LONGEST_POLL)
        missing = [str(job) for job in ids if job not in statuses]
        if missing:
            raise NoSuchJob(f"not in the database (any more): {', '.join(missing)}")
        return statuses


def _database(where: Config | Database | str) -> Database:
    if isinstance(where, Config):
        return where.database
    if isinstance(where, Database):
        return where
    try:
        return Database(url=where)
    except ValidationError as error:
        # Without the URL: it may hold a password.
        raise ConfigError([f"database: {entry['msg'].removeprefix('Value error, ')}" for entry in error.errors()]) from None


def _next_interval(interval: float, waiting: int, *, changed: bool) -> float:
    """Seconds until the next look: short for few jobs on the move, longer for many jobs and while nothing happens."""
    shortest = min(_LONGEST_POLL, _SHORTEST_POLL * (1 + waiting / 50))
    return shortest if changed else min(_LONGEST_POLL, max(shortest, interval * 1.5))


def _checked(documents: Iterable[Document]) -> list[Document]:
    """Copies of the documents as they are stored.  Raises InvalidJob with the problems of all of them."""
    given = list(documents)
    if problems := numbered([problems_of(document) for document in given]):
        raise InvalidJob(problems)
    return [{"status": Status.TO_BE_BUILT.value, **document} for document in given]


def numbered(problems: Sequence[Sequence[str]]) -> list[str]:
    """The problems of several jobs in one list, each with the number of its job, counted from 1, if there is more than one."""
    if len(problems) == 1:
        return list(problems[0])
    return [f"job {number}: {problem}" for number, of_one in enumerate(problems, 1) for problem in of_one]


def problems_of(document: Any) -> list[str]:
    """All that keeps this document from being a new job: what an engine is sure to refuse, and what no database holds."""
    if not isinstance(document, Mapping):
        return [f"expected a job (`command: …`), found {_shown(document)}"]
    problems = list(_unstorable(document))
    if document.get("_id") == "":
        problems.append("_id: expected an id, found an empty text; without an _id the job gets one")
    status = document.get("status", Status.TO_BE_BUILT.value)
    if status not in _OF_A_NEW_JOB:
        problems.append(f"status: a new job is `init` or `to be built`, found {_shown(status)}")
    request = document.get("request")
    if request is not None and request not in tuple(REQUESTS):
        problems.append(f"request: expected one of {', '.join(REQUESTS)}, found {_shown(request)}")
    try:
        # The id only here: the database gives one to a document without.  The status: another is told above.
        return problems + building.check(Job.from_document({"_id": "new", **document, "status": Status.TO_BE_BUILT}))
    except InvalidJob as error:
        return problems + error.problems


def _unstorable(document: Mapping[str, Any]) -> Iterator[str]:
    """The values that are too large or too deep for a database.  A document may hold itself: the depth ends the search."""
    todo: list[tuple[str, Any, int]] = [(str(name), value, 1) for name, value in document.items()]
    while todo:
        place, value, depth = todo.pop()
        if depth > _DEEPEST:
            yield f"{place[:40]}…: nested too deeply; {_DEEPEST} levels are allowed"
            return
        if isinstance(value, str):
            continue  # as most values are; told sooner than what a Mapping is
        if isinstance(value, Mapping):
            todo += [(f"{place}.{name}", item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(f"{place}.{index}", item, depth + 1) for index, item in enumerate(value)]
        elif isinstance(value, int) and not -_BEYOND <= value < _BEYOND:
            yield f"{place}: expected a whole number of at most 64 bits, found {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
