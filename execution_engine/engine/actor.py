"""What all actors have in common: a short-lived process that claims batches of jobs, works on them and reports.

An actor's messages to the monitor: `{"beat": true}` while it makes progress, `{"did": {...}}` after each batch, `{"idle":
true}` when it found nothing to do and waits for a while, `{"outage": what, "error": text}` when the database or its system did
not answer.  The monitor's to an actor: `{"go": true}` (look again) and `{"stop": true}` (finish the batch and end).
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
from execution_engine.engine.assembly import Site
from execution_engine.engine.channel import Channel
from execution_engine.errors import ExecutionSystemError, StoreUnavailable
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import FINAL, Status
from execution_engine.store.job_store import BrokenJob, Change, Claimed, JobStore, Query, Work
from execution_engine.systems.execution_systems import ExecutionSystem

EXIT_OUTAGE = 75
"""EX_TEMPFAIL: what the actor needs is out of reach; none of its jobs is to blame."""

_BEAT_INTERVAL = 1.0


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
        self._channel = workplace.channel
        self._leases_end = 0.0
        self._last_beat = 0.0
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
                if self.turn() == 0 and not self._wait_for_work():
                    break
        except Stop:
            pass
        except StoreUnavailable as error:
            self.tell(outage="database", error=str(error))
            return EXIT_OUTAGE
        except ExecutionSystemError as error:
            if not error.transient:
                raise
            self.tell(outage="system", error=str(error))
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

        Raises Stop when the monitor is gone.
        """
        now = self.clock.monotonic()
        if now - self._last_beat < _BEAT_INTERVAL:
            return
        self._last_beat = now
        self.tell(beat=True)
        self._hear()
        if self._leases_end and now > self._leases_end - self.settings.lease * 2 / 3:
            self.store.renew(self.owner, self._new_lease())

    def tell(self, **message: Any) -> None:
        """Sends a message to the monitor."""
        if not self._channel.send(message):
            raise Stop

    def _hear(self) -> None:
        try:
            while (message := self._channel.receive()) is not None:
                self._stopping = self._stopping or "stop" in message
        except EOFError:
            raise Stop from None

    # --- claims and changes

    def claim(self, lane: str | None = None, limit: int | None = None, cores: int | None = None) -> list[Claimed]:
        """Claims a batch of this actor's work, for the time of one lease."""
        assert self.work is not None
        query, until = Query(self.work, lane), self._new_lease()
        limit = self.settings.batch if limit is None else limit
        return self.store.claim(query, self.owner, limit, self.clock.now(), until, cores=cores)

    def _new_lease(self) -> datetime:
        self._leases_end = self.clock.monotonic() + self.settings.lease
        return self.clock.now() + timedelta(seconds=self.settings.lease)

    def apply(self, changes: Iterable[Change]) -> set[str]:
        """Stores the changes and tells of each that took place; returns the ids of the jobs that somebody else has by now."""
        batch = list(changes)
        if not batch:
            return set()
        lost = self.store.apply(batch, self.owner, self.clock.now())
        for change in batch:
            if str(change.job.id) in lost:
                events.emit("job.lost", job=str(change.job.id), status=change.job.status, actor=self.owner)
            elif change.status != change.job.status:
                announce(change)
        return lost

    def report_unless_healthy(self, system: ExecutionSystem | None, error: Exception) -> None:
        """One job met a fault that may pass.  It is no outage of the system if that can be asked, and says that it is well."""
        can_tell = system is not None and type(system).probe is not ExecutionSystem.probe
        if system is None or not can_tell or not system.probe().ok:
            self.tell(outage="system", error=str(error))

    def due_in(self, seconds: float) -> datetime:
        """The date so many seconds from now."""
        return self.clock.now() + timedelta(seconds=seconds)


def announce(change: Change) -> None:
    """The event of a transition."""
    job = change.job
    native = change.fields.get("execution.job_no")
    facts = (
        {"label": job.label, "system": job.execution.system, "native": native or job.execution.job_no}
        if isinstance(job, Job)
        else {}
    )
    events.emit("job.transition", job=str(job.id), old=job.status, new=change.status, why=change.why, **facts)


def announce_claims(claims: Iterable[Claimed], owner: str) -> None:
    """The events of the transitions that were part of a claim."""
    for claimed in claims:
        job = claimed.job
        if claimed.was != job.status:
            label = job.label if isinstance(job, Job) else ""
            events.emit(
                "job.transition", job=str(job.id), label=label, old=claimed.was, new=job.status, why=f"claimed by {owner}"
            )


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
