"""The interface to the database.  Nothing outside `store/` knows which implementation it talks to.

Every method does its work in as few round trips as the database allows, whatever the number of jobs, and at a cost that does not
depend on how many jobs have ended.  Every write is conditional and safe to repeat.  Any method raises StoreUnavailable when
the database cannot be reached (the operation may or may not have happened) and StoreError when the database refuses.

How a claim works.  To claim a job is to take a lease on it: `lease.owner`, `lease.token` one higher than before, `lease.until`,
and `due_at` set to the same moment as `lease.until`, so that a claimed job is not due, and is due again when the lease runs
out.  There is no other lock.  A job is due when `due_at` is null (and its status waits for an actor) or not in the future.
The moments that a store is given, and those in the jobs that it gives, are by this machine's clock; in the documents they are by
the database's, where that has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from execution_engine.jobs.followed import Followed
from execution_engine.jobs.job import Job
from execution_engine.jobs.lease import Lease
from execution_engine.jobs.recovery import BEGINS, BEGUN
from execution_engine.jobs.status import Status
from execution_engine.store.engine_registry import EngineRegistry
from execution_engine.store.journal import Journal

if TYPE_CHECKING:
    from execution_engine.store.inspection import Inspection

Document = dict[str, Any]


class Work(StrEnum):
    """The kinds of work that a job can wait for; each has its actor."""

    BUILDING = "building"
    SUBMIT = "submit"
    REQUEST = "request"
    NOTIFICATION = "notification"


CLAIMS: dict[Work, dict[Status, Status]] = {
    work: {waiting: BEGINS[waiting], BEGINS[waiting]: BEGINS[waiting]}
    for work, waiting in ((Work.BUILDING, Status.TO_BE_BUILT), (Work.SUBMIT, Status.TO_BE_SUBMITTED))
}
"""For building and submit: which statuses a claim takes, and which status it gives.  The second of each is the case of an actor
that died: the job keeps its status, and is due because the lease ran out or was ended."""

MOST_AT_ONCE = 32 << 20
"""Bytes of jobs, without their inputs, that one claim takes; the job that exceeds it is the last."""

SMALL_INPUTS = 4 << 20
"""Bytes of inputs that come with the jobs of one claim."""

REQUESTABLE = frozenset(Status) - BEGUN - {Status.INIT}
"""A draft is its app's.  A job that is being built or submitted is in an actor's hands, or will be again: it sees the
request then."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which work is claimed.  `lane` is the job's `execution.lane`; None where the work belongs to no system.

    - BUILDING (lane None): status `to be built` with `due_at` null or not in the future (and `not_before`, an app's field, not
      in the future: the claim postpones such a job by setting its `due_at` to it), and status `building` with `due_at` not in
      the future.
    - SUBMIT (a lane): the same with `to be submitted` and `submitting`.
    - REQUEST (a lane: for the jobs of it that have a native id, so that their system must be asked; or None: for all others,
      whatever lane they wait in, those that have ended among them): `request` is a string, the status is one of REQUESTABLE, and
      nobody holds the job: `lease.until` is null or not in the future.  Whether a status makes sense is the actor's business.
    - NOTIFICATION (lane None): a final status, with `due_at` not in the future.
    """

    work: Work
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class BrokenJob:
    """A claimed document that does not describe a job.  It can only end in `error`."""

    id: Any
    status: Status
    lease: Lease
    problems: tuple[str, ...]
    document: Document = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job with a lease, and the status that it had before the claim.  The inputs come with jobs that are to be built."""

    job: Job | BrokenJob
    was: Status
    inputs_left: bool = False
    """its inputs are large, and were not read with it: JobStore.whole does"""


@dataclass(frozen=True, slots=True)
class Cores:
    """For how many cores a claim may take jobs: those that are `free` (below 0: more are in use than there are), and beyond them
    `ahead`, but for those no job of more than `widest`.  One of more than `slots`, all there are (0: not known), would wait for
    ever, and all others behind it: it is taken at once, for its system to refuse."""

    free: int
    ahead: int = 0
    widest: int = 0
    slots: int = 0

    @property
    def all(self) -> int:
        return self.free + self.ahead

    def take(self, wanted: int) -> Cores | None:
        """What is left with a job of so many; None when it does not fit."""
        if 0 < self.slots < wanted:
            return self
        fits = wanted <= self.free or wanted <= min(self.widest, self.all)
        return replace(self, free=self.free - wanted) if fits else None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one job.

    The condition: the document still has `job.status` and the `owner` and `token` of `job.lease`.  When `status` differs from
    `job.status` it is a transition: it must be in the table of `jobs/status.py`, and the same write appends to `history` (status,
    time, by, why).  Out of a final status leads only the change that answers `retry` and sets `attempt` one higher.  A job that
    is left begun (`building`, `submitting`) without its lease must have a `due_at`.  `fields` are dotted names of engine fields
    and their new values (documents, lists, dates, strings, numbers; a None value stores null).  The lease ends with the change
    (`lease.owner` and `until` null, `crashes` 0; the token stays) unless `keep_lease`, which leaves the lease and `due_at` alone.
    `due_at` becomes the one given.  `answered` removes `request` if it still is that very request.  With `crash` (what went
    wrong) the lease ends, but `lease.crashes` grows by one and `lease.crash` is set.  `undo`, of a transition back to where the
    job was before it was claimed: the history loses the entry of the claim instead of growing.
    """

    job: Job | BrokenJob
    status: Status
    why: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    due_at: datetime | None = None
    keep_lease: bool = False
    answered: str | None = None
    crash: str | None = None
    undo: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """What `find` selects; every given condition must hold."""

    statuses: Collection[Status] = ()
    owner: str | None = None
    project: str | None = None
    system: str | None = None
    tag: str | None = None
    since: datetime | None = None
    """created at or after"""


class JobStore(ABC):
    """A database of jobs.  The constructor touches nothing; `boot` connects, after any fork; one store per process and thread."""

    engines: EngineRegistry
    """which engines use this database; over the same connection"""

    journal: Journal
    """what they did by themselves; over the same connection"""

    @property
    def identity(self) -> str:
        """Which database this is, for those that another could take the place of (a file); known once it was opened."""
        return ""

    @abstractmethod
    def boot(self, *, create: bool = False, identity: str = "") -> None:
        """Connects.  Harmless when repeated.

        With `create`, the indexes that are missing are made, and an embedded database where there is none; one of an older
        execd is brought up to date, and refused without.  Where there is none, that is no error yet: each operation raises
        StoreError until somebody has made it.  With the `identity` of another process' store, only that very database is used;
        while it is gone, or another is in its place, each operation raises StoreUnavailable.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the connection.  Harmless when repeated."""

    def __enter__(self) -> JobStore:
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the app's side

    @abstractmethod
    def insert(self, documents: Sequence[Document]) -> list[Any]:
        """Stores new documents as they are, and returns their ids in order (an id is made where there is none).

        Raises StoreError when an id is there already; none of the documents is stored then.
        """

    @abstractmethod
    def request(self, ids: Collection[Any], what: str) -> list[Any]:
        """Sets `request` on these jobs, unless their status is final (for `retry`: if it is one that can be retried); returns
        the ids of the jobs that got it."""

    # --- the engine's side

    @abstractmethod
    def due(self, queries: Iterable[Query], now: datetime) -> set[Query]:
        """Those of the queries for which a claim would find at least one job."""

    @abstractmethod
    def claim(
        self, query: Query, owner: str, limit: int, now: datetime, until: datetime, cores: Cores | None = None
    ) -> list[Claimed]:
        """Takes a lease on up to `limit` jobs, each of which no other claim gets.

        With `cores`, only as many jobs, in order, as fit together (`resources.cores`, 1 where it is missing): the first that
        does not ends the batch, so that a large job is not overtaken for ever by small ones.

        Those that an actor had begun when it died come first; then by priority (higher first), then age (`times.created`, for
        jobs not built yet the id's order of insertion).  The transition to `building` or `submitting` and its history entry are
        part of the claim.  A job whose `lease.crashes` is not 0 is claimed alone, so that the next crash can be blamed on it.
        A document that breaks the claim's own write (engine fields of a wrong type) ends in `error`, kind `invalid job`, and
        does not keep the others from being claimed.
        """

    @abstractmethod
    def claim_one(self, job_id: Any, owner: str, now: datetime, until: datetime) -> Job | None:
        """Takes a lease on this very job in whatever status, if nobody holds it (`lease.until` null or past); else None."""

    @abstractmethod
    def whole(self, job: Job) -> Job | BrokenJob | None:
        """The job with its inputs, as the database has it; None if its status or its lease is another by now."""

    @abstractmethod
    def renew(self, owner: str, until: datetime) -> int:
        """Moves the end of all leases of this owner (and their `due_at`); returns how many there are."""

    @abstractmethod
    def release(
        self, owner: str, now: datetime, crash: str | None = None, retry_at: datetime | None = None
    ) -> list[Job | BrokenJob]:
        """Ends all leases of this owner and makes the jobs due at `retry_at` (default: now); statuses stay.

        `owner` may end in `*`: all owners that begin so.  With `crash` (how the actor died) each job's `lease.crashes` grows by
        one and `lease.crash` is set.  A job on a system or in a final status gets its `due_at` back as null, unless it waits
        for notification. Returns the jobs as they are now.
        """

    @abstractmethod
    def apply(self, changes: Sequence[Change], by: str, now: datetime) -> set[str]:
        """Makes the changes, each if its condition holds; the one method that makes transitions.

        Returns the `text_id`s of the jobs whose condition did not hold: the caller has lost them and must stop touching
        them.  A transition that the table forbids raises ValueError before anything is written.
        """

    @abstractmethod
    def followed(self, lane: str) -> list[Followed]:
        """All jobs of this lane that the system has (a status of ON_SYSTEM), in brief: cheap for tens of thousands."""

    @abstractmethod
    def on_system(self, lane: str, among: Collection[Any] | None = None) -> list[Job]:
        """The jobs of this lane that the system has, as a whole; `among`: those of these ids.

        One whose engine's fields describe no job is left out.
        """

    @abstractmethod
    def taken_cores(self, lane: str, now: datetime) -> int:
        """How many cores the jobs ask for that take up room on this lane: those that the system has, and those that are being
        submitted just now.  Not those whose submission was cut short: they are claimed again, and then found or started.
        """

    # --- asking

    @abstractmethod
    def get(self, job_id: Any) -> Document | None:
        """One document, whole, or None."""

    @abstractmethod
    def resolve(self, text: str) -> Any:
        """The id whose text is, or unambiguously begins with, `text`.  Raises NoSuchJob otherwise, and says which it could be."""

    @abstractmethod
    def find(self, selection: Filter, limit: int = 0, fields: Collection[str] | None = None) -> Iterator[Document]:
        """The documents selected, the newest first, as they are read: a few at a time, whatever their number; 0: all.

        `fields`: the names, also dotted ones (`execution.system`), of all that is wanted beside `_id`; more may be there.  The
        database is asked when the first is asked for; what others write from then on is seen or not.
        """

    @abstractmethod
    def statuses(self, ids: Collection[Any]) -> dict[Any, Status]:
        """The status of each of these jobs that exists (for waiting on many).

        A job that ended and is asked to `retry` counts as `to be built`, which it is about to become.
        """

    @abstractmethod
    def count(self) -> dict[str, int]:
        """How many jobs have each status."""

    @abstractmethod
    def lanes(self) -> dict[str, dict[str, int]]:
        """For each lane that has jobs that have not ended: how many of them have which status."""

    @abstractmethod
    def ping(self) -> str:
        """Asks the database for a sign of life; returns what it is (name and version), for `check` and `status`."""

    @property
    @abstractmethod
    def inspection(self) -> Inspection:
        """For `execd doctor`: a look at the whole database."""
