"""What all actors have in common: a short-lived process that claims batches of jobs, works on them and reports.

An actor's messages to the monitor: `{"beat": true}` while it makes progress, `{"did": {...}}` after each batch, `{"idle":
true}` when it found nothing to do and waits for a while, `{"outage": what, "error": text, "since": seconds}` when the database
or its system did not answer in a turn that began then (monotonic), `{"files": seconds}` when jobs' directories could be read
then.  The monitor's to an actor: `{"go": true}` (look again) and `{"stop": true}` (finish the batch and end).
"""

from __future__ import annotations

import select
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.engine import file_system
from execution_engine.engine.assembly import Site
from execution_engine.engine.channel import Channel
from execution_engine.engine.lifeline import EXIT_OUTAGE
from execution_engine.errors import ExecutionSystemError, LeaseLost, StoreUnavailable
from execution_engine.jobs.job import Job
from execution_engine.jobs.reasons import OF_THE_SITE
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store.changes import due_after_release
from execution_engine.store.job_store import BrokenJob, Change, Claimed, Cores, JobStore, Query, Work
from execution_engine.systems.execution_systems import ExecutionSystem

STORE_INTERVAL = 0.05
"""Seconds after which what is done is stored, while there is more to do: the next step with a job waits for no other job."""

_BEAT_INTERVAL = 1.0
_IN_JOBS_DIR = frozenset({Work.BUILDING, Work.SUBMIT})


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an actor process is given to work with."""

    site: Site
    store: JobStore
    clock: Clock
    channel: Channel
    owner: str
    """boot id of the engine and name of the actor; the owner of its leases"""
    careful: bool = False
    """the actor at this post before it died: take jobs one by one, so that the one to blame is known"""
    resting: bool = False
    """its system took no more jobs of late: begin with one"""


class FilesAway(Exception):
    """The file system of the jobs' directories does not answer, or is not where it was."""


class Stop(Exception):
    """The monitor wants this actor to end, or is gone."""


class Actor(ABC):
    """One actor process.  A subclass says what a turn is."""

    work: ClassVar[Work | None] = None

    def __init__(self, workplace: Workplace) -> None:
        self.site = workplace.site
        self.settings = workplace.site.config.engine
        self.store = workplace.store
        self.clock = workplace.clock
        self.owner = workplace.owner
        self.careful = workplace.careful
        self.resting = workplace.resting
        self._careful_claims = 0
        self.doing = ""
        """what it does between two beats, for the log"""
        self._channel = workplace.channel
        self._noted: dict[str, Any] = {}
        self._held: set[str] = set()
        self._leases_end = 0.0
        self._last_beat = 0.0
        self.turn_began = self.clock.monotonic()
        """when what this turn knows was looked up, at the earliest"""
        self._beat_interval = min(_BEAT_INTERVAL, self.settings.lease / 6)
        self._stopping = False

    # --- for subclasses

    def boot(self) -> None:
        """Opens what the actor needs beside the database."""

    def close(self) -> None:
        """Closes it."""

    @abstractmethod
    def turn(self) -> int:
        """Does one batch of work; returns how many jobs it had, 0 when there was nothing to do."""

    # --- the loop

    def run(self) -> int:
        """Works until there has been nothing to do for a while, or the time of this process is over."""
        end = self.clock.monotonic() + self.settings.actor_lifetime
        try:
            self.boot()
            while not self._stopping and self.clock.monotonic() < end:
                self.beat()
                self.doing = ""
                self.turn_began = self.clock.monotonic()
                had = self.turn()
                self._held.clear()  # a turn ends with its jobs given back
                if had == 0 and not self._wait_for_work():
                    break
        except Stop:
            pass
        except LeaseLost as error:
            events.emit("actor.late", actor=self.owner.rpartition("/")[2], why=str(error), doing=self.doing)
            return EXIT_OUTAGE
        except StoreUnavailable as error:
            self.tell_outage("database", str(error))
            return EXIT_OUTAGE
        except FilesAway as error:
            self.tell_outage(file_system.FILES, str(error))
            return EXIT_OUTAGE
        except ExecutionSystemError as error:
            if not error.transient:
                raise
            self.tell_outage("system", str(error))
            return EXIT_OUTAGE
        finally:
            self.close()
        return 0

    def _wait_for_work(self) -> bool:
        """Lingers, warm, until the monitor has work for it; False when none came."""
        self.tell(idle=True)
        ready, _, _ = select.select([self._channel], [], [], self.settings.actor_linger)
        self._hear()
        return bool(ready) and not self._stopping

    def beat(self) -> None:
        """Called between the steps of the work, as a sign of progress: tells the monitor, and renews the leases in time.

        Raises Stop when the monitor is gone, and LeaseLost when jobs are others' by now: a step took longer than the lease, or
        this engine was declared dead.
        """
        now = self.clock.monotonic()
        late = bool(self._held) and now > self._leases_end
        if not late and now - self._last_beat < self._beat_interval:
            return
        self._last_beat = now
        self.tell(beat=True)
        self._hear()
        if self._held and now > self._leases_end - self.settings.lease * 5 / 6:
            self.renew()

    def renew(self) -> None:
        """Renews the leases, if there are any.  Raises LeaseLost when one of them is this actor's no longer."""
        if not self._held:
            return
        end = self.clock.monotonic() + self.settings.lease
        if self.store.renew(self.owner, self._lease_from_now()) < len(self._held):
            raise LeaseLost("its leases ran out or were taken away")
        self._leases_end = end

    def tell(self, **message: Any) -> None:
        """Sends a message to the monitor, with what was noted since the last one."""
        noted, self._noted = self._noted, {}
        if not self._channel.send({**noted, **message}):
            raise Stop

    def tell_outage(self, what: str, error: str) -> None:
        """Tells the monitor what did not answer, and since when at the latest: meanwhile others may have found it answering."""
        self.tell(outage=what, error=error, since=self.turn_began)

    def note(self, **message: Any) -> None:
        """Has the monitor told with the next message: one less that wakes it."""
        self._noted.update(message)

    def _hear(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                self._stopping = self._stopping or "stop" in message
        except EOFError:
            raise Stop from None

    def look_at_files(self) -> None:
        """Raises FilesAway when nothing can be read below `jobs_dir` now: a job that is touched then would be blamed for it."""
        jobs_dir, patience = self.site.config.jobs_dir, self.settings.actor_deadline / 4
        asked_at = self.clock.monotonic()
        if file_system.hangs(jobs_dir, patience):
            raise FilesAway(f"{jobs_dir} cannot be listed within {patience:g} s")
        self.note(files=asked_at)

    def look_at_place(self) -> None:
        """Raises FilesAway when `jobs_dir` is not the directory that it was: what is missing there is lost to nobody.

        That it is proves little: a file system that hangs may answer so much from memory.
        """
        if (why := file_system.elsewhere(self.site.config.jobs_dir, self.site.jobs_dir)) is not None:
            raise FilesAway(why)

    # --- claims and changes

    def claim(self, lane: str | None = None, limit: int | None = None, cores: Cores | None = None) -> list[Claimed]:
        """Claims a batch of this actor's work, for the time of one lease."""
        assert self.work is not None
        if self.work in _IN_JOBS_DIR:
            self.look_at_place()
        limit = self.settings.batch if limit is None else limit
        if self.careful:
            self.look_at_files()
            limit = min(limit, 1)
            self._careful_claims += 1
            self.careful = self._careful_claims < self.settings.batch  # as many as the one before had at the most
        query, until = Query(self.work, lane), self._new_lease()
        claims = self.store.claim(query, self.owner, limit, self.clock.now(), until, cores)
        self._held.update(str(claimed.job.id) for claimed in claims)
        return claims

    def claim_one(self, job_id: Any, status: Status) -> Job | None:
        """Claims this very job, for the time of one lease; None if another has it, or its status is another by now."""
        job = self.store.claim_one(job_id, self.owner, self.clock.now(), self._new_lease())
        if job is None:
            return None
        self._held.add(job.text_id)
        if job.status is status:
            return job
        self.apply([Change(job, job.status, due_at=due_after_release(job.status, job.times.notified, self.clock.now()))])
        return None

    def _new_lease(self) -> datetime:
        """Until when a job is held that is claimed now; the leases held already end no later for it."""
        if not self._held:
            self._leases_end = self.clock.monotonic() + self.settings.lease
        return self._lease_from_now()

    def _lease_from_now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.settings.lease)

    def apply(self, changes: Iterable[Change]) -> set[str]:
        """Stores the changes and tells of each that took place; returns the ids of the jobs that somebody else has by now."""
        batch = list(changes)
        if not batch:
            return set()
        lost = self.store.apply(batch, self.owner, self.clock.now())
        self._held.difference_update(str(change.job.id) for change in batch if not change.keep_lease)
        with events.together():
            for change in batch:
                if str(change.job.id) in lost:
                    events.emit("job.lost", job=str(change.job.id), status=change.job.status, actor=self.owner)
                elif change.status != change.job.status and not change.undo:
                    announce(change)
        return lost

    def due_in(self, seconds: float) -> datetime:
        """The date so many seconds from now."""
        return self.clock.now() + timedelta(seconds=seconds)


def is_healthy(system: ExecutionSystem) -> bool:
    """Whether a fault that one job met, and that may pass, is no outage of the system: that can be asked, and says it is well."""
    return type(system).probe is not ExecutionSystem.probe and system.probe().ok


def announce(change: Change) -> None:
    """The event of a transition."""
    job = change.job
    native = change.fields.get("execution.job_no")
    reason = (change.fields.get("exit") or {}).get("reason")
    facts = (
        {"label": job.label, "system": job.execution.system, "native": native or job.execution.job_no}
        if isinstance(job, Job)
        else {}
    )
    if reason in OF_THE_SITE:
        facts["trouble"] = reason
    events.emit("job.transition", job=str(job.id), old=job.status, new=change.status, why=change.why, **facts)


def announce_claims(claims: Iterable[Claimed], owner: str) -> None:
    """The events of the transitions that were part of a claim."""
    why = f"claimed by {owner}"
    with events.together():
        for claimed in claims:
            job = claimed.job
            if claimed.was != job.status:
                label = job.label if isinstance(job, Job) else ""
                events.emit("job.transition", job=str(job.id), label=label, old=claimed.was, new=job.status, why=why)


def ended(
    job: Job | BrokenJob,
    status: Status,
    kind: str,
    message: str,
    *,
    now: datetime,
    notify: bool,
    fields: Mapping[str, Any] | None = None,
) -> Change:
    """The change that ends a job before a system had it.  `kind` becomes the reason and the kind of its error, if it has
    none yet."""
    assert status in FINAL
    values: dict[str, Any] = {"times.ended": now, "exit": {"code": None, "signal": None, "reason": kind}}
    if status is Status.ERROR:
        values["error"] = {"kind": kind, "message": message, "details": None}
    answered = job.request if status is Status.KILLED and isinstance(job, Job) else None
    return Change(
        job, status, why=message, fields={**values, **(fields or {})}, due_at=now if notify else None, answered=answered
    )
