"""Hands jobs to one execution system: from `to be submitted`, over the stored intent `submitting`, to the system's native id."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from execution_engine import events
from execution_engine.engine.actor import STORE_INTERVAL, Workplace, announce_claims, is_healthy
from execution_engine.engine.lane_actor import LaneActor
from execution_engine.engine.room import Room
from execution_engine.engine.starts import Unclear, never_starts
from execution_engine.engine.vetting import Vetting
from execution_engine.errors import ExecutionSystemError, SystemClosed, SystemFull
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.job_store import Change, Claimed, Work
from execution_engine.systems.execution_systems import Started


@dataclass(frozen=True, slots=True)
class _Batch:
    """Jobs that were claimed together and handed over.  `outcomes`: what becomes of each of `jobs`, as the system tells it."""

    claimed: int
    adopted: int
    notify: int
    jobs: Sequence[Job]
    outcomes: Iterable[tuple[Job, str | Started | Exception]]


class SubmitActor(LaneActor):
    """One batch after the other, as far as the system has slots.

    To a system that takes jobs ahead the next batch is handed over before the last of the one before have started: while the
    database is looked at and written to, the slots have work.
    """

    work = Work.SUBMIT

    def __init__(self, workplace: Workplace, system: str) -> None:
        super().__init__(workplace, system)
        self._room = Room(self.lane, self.owner.partition("/")[0], self.store, self.clock)
        self._said_full = False
        self._refusal: SystemFull | SystemClosed | None = None
        self._most = 1 if self.resting else self.settings.batch
        self._taken = 0
        self._no_answer = ""
        self._vetting = Vetting(Notifier(self.site.config.notification), self.settings.crashes)

    def turn(self) -> int:
        had = self._taken = 0
        last_claim = self.clock.monotonic() + _LONGEST_TURN
        batch = self._hand_over()
        while batch is not None:
            had += batch.claimed
            batch = self._submit(batch, last_claim)
        if self._no_answer:  # its library may read old answers from now on: a new process looks each job up by its name
            raise ExecutionSystemError(self._no_answer, transient=True)
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            self._take_heart(had)
            return had
        if self.system.takes_ahead:
            self._note_if_full(True)
        else:
            self._rest(refusal)
        return 0  # no use in claiming the next ones

    def _rest(self, refusal: SystemFull | SystemClosed) -> None:
        """The system takes no more: the monitor says when to look again, and then so many are claimed as it took."""
        self.resting, self._most = True, max(1, self._taken)
        closed = isinstance(refusal, SystemClosed)
        self.note(refused={"why": str(refusal), "closed": closed, "taken": self._taken, "since": self.turn_began})

    def _take_heart(self, had: int) -> None:
        """All were taken: more may be, and when there were no more than that, the rest is over."""
        if self.resting and had < self._most:
            self.resting = False
            self.note(takes=True)
        self._most = min(2 * self._most, self.settings.batch)

    def _hand_over(self, *, ahead: bool = False) -> _Batch | None:
        """Claims jobs as far as there is room, and hands them to the system; None when there are none.

        `ahead`: others were handed over that have not started yet.
        """
        self.turn_began = self.clock.monotonic()
        cores = self._room.look(self.system)
        limit = self._most
        if cores is not None:
            if not ahead:
                self._note_if_full(cores.all <= 0)
            if cores.all <= 0:
                return None
            limit = min(cores.all, limit)
        claims = self.claim(self.lane, limit, cores)
        if not claims:
            return None
        if not self.resting:
            announce_claims(claims, self.owner)
        adopted, others = self._adopt(claims)
        good, changes = self._vetting.sort(others, self.clock.now())
        fresh = [claimed.job for claimed in good if isinstance(claimed.job, Job)]
        self._tell_adopted(adopted, self.apply(changes + adopted))
        self.beat()  # nothing is handed over that may be another's by now
        outcomes = self.system.run_many(fresh) if fresh else ()
        return _Batch(len(claims), len(adopted), sum(1 for change in changes if change.due_at is not None), fresh, outcomes)

    def _submit(self, batch: _Batch, last_claim: float) -> _Batch | None:
        """Stores what becomes of the jobs; returns the next batch if that was handed over meanwhile, not after `last_claim`.

        A few ids are stored at a time, because a write takes longer than a submission.  Those that a crash loses are found again
        by the jobs' names.
        """
        following: _Batch | None = None
        half = len(batch.jobs) // 2
        left, taken = len(batch.jobs), batch.adopted
        done: list[Change] = []
        stored_at = self.clock.monotonic()
        self._refusal = None
        try:
            for job, outcome in batch.outcomes:
                self.beat()
                done.append(self._outcome(job, outcome))
                if done[-1].status in _TAKEN:
                    self._room.started(job.resources.cores)
                    taken += 1
                left -= 1
                if left == half > 0 and self._may_claim_ahead(last_claim):
                    following = self._hand_over(ahead=True)
                now = self.clock.monotonic()
                if now - stored_at >= STORE_INTERVAL:
                    self.apply(done)
                    done, stored_at = [], now
        finally:
            self.apply(done)
        self._taken += taken
        self.tell(did={"submitted": taken, "notify": batch.notify})
        return following

    def _may_claim_ahead(self, last_claim: float) -> bool:
        in_time = self.clock.monotonic() < last_claim and not self._stopping
        return self.system.takes_ahead and in_time and not (self._refusal or self._no_answer)

    def _note_if_full(self, full: bool) -> None:
        if full or self._said_full:
            self._said_full = full
            self.note(full=full, looked=self.turn_began)

    def _adopt(self, claims: Iterable[Claimed]) -> tuple[list[Change], list[Claimed]]:
        """Jobs whose submission was cut short and that the system has after all, and the others."""
        begun = [claimed.job for claimed in claims if isinstance(claimed.job, Job) and claimed.was is Status.SUBMITTING]
        adopted: list[Change] = []
        unsure: list[Change] = []
        for job, native in self._find(begun):
            self.beat()
            if isinstance(native, ExecutionSystemError) and native.transient:
                unsure.append(Change(job, job.status, due_at=self.due_in(self.settings.retry_delay.max / 4)))
            elif isinstance(native, Exception):
                unsure.append(self._unsure(job, native, "find"))
            elif native is not None:
                adopted.append(self._submitted(job, Started(native), why="found in the system under its name"))
        self.apply(unsure)
        known = {str(change.job.id) for change in (*adopted, *unsure)}
        return adopted, [claimed for claimed in claims if str(claimed.job.id) not in known]

    def _find(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        """The native ids under which the system has these jobs; a job that cannot be looked for has the exception.

        Raises ExecutionSystemError (transient) in an outage.  Where the system is well, and something that only some jobs need
        does not answer (an accounting), these wait, and are not asked about one by one.
        """
        found: set[str] = set()
        try:
            for job, native in self.system.find_many(jobs) if jobs else ():
                found.add(job.text_id)
                yield job, native
        except Exception as error:
            waits = isinstance(error, ExecutionSystemError) and error.transient
            if waits and not is_healthy(self.system):
                raise
            for job in jobs:
                if job.text_id not in found:
                    yield from [(job, error)] if waits or len(jobs) == 1 else self._find([job])

    def _tell_adopted(self, adopted: Iterable[Change], lost: Collection[str]) -> None:
        for change in adopted:
            if str(change.job.id) not in lost and isinstance(change.job, Job):
                native = change.fields["execution.job_no"]
                events.emit("job.adopted", job=change.job.text_id, label=change.job.label, system=self.name, native=native)

    def _outcome(self, job: Job, outcome: str | Started | Exception) -> Change:
        if isinstance(outcome, str):
            outcome = Started(outcome)
        if isinstance(outcome, Started) and outcome.native_id:
            return self._submitted(job, outcome, why="")
        if isinstance(outcome, SystemFull | SystemClosed):
            return self._no_room(job, outcome)
        if isinstance(outcome, ExecutionSystemError):
            return self._again(job, str(outcome)) if outcome.transient else self._refused(job, str(outcome))
        if isinstance(outcome, OSError):
            return self._unanswered(job, outcome)
        return self._unsure(job, outcome)

    def _submitted(self, job: Job, started: Started, why: str) -> Change:
        now = self.clock.now()
        fields = {"execution.job_no": started.native_id, "times.submitted": now}
        if started.status is Status.RUNNING:
            fields["times.started"] = now
        return Change(job, started.status, why=why, fields=fields)

    def _refused(self, job: Job, message: str) -> Change:
        """For good, unless an earlier submission whose answer got lost was taken: that one is looked for by its name."""
        try:
            is_over = never_starts(job)
        except Unclear:
            is_over = False
        if not is_over:
            return Change(job, job.status, due_at=self.due_in(self.settings.retry_delay.min))
        return self._vetting.end(job, Status.ERROR, "submission refused", message, self.clock.now())

    def _again(self, job: Job, message: str) -> Change:
        """The system is down or busy and certainly did not take the job."""
        if not is_healthy(self.system):
            self.tell_outage("system", message)
        waited = (self.clock.now() - _waits_since(job, self.clock.now())).total_seconds()
        delay = max(self.settings.retry_delay.min, min(waited, self.settings.retry_delay.max))
        return Change(job, Status.TO_BE_SUBMITTED, why=message, due_at=self.due_in(delay))

    def _no_room(self, job: Job, refusal: SystemFull | SystemClosed) -> Change:
        """The system takes no more jobs.  That is no part of this one's history: it is as if it had not been claimed."""
        self._refusal = refusal
        return Change(job, Status.TO_BE_SUBMITTED, why=str(refusal), undo=not self.system.takes_ahead)

    def _unanswered(self, job: Job, error: OSError) -> Change:
        """The connection broke: the system may have the job.  It stays `submitting`; the next claim looks for it first."""
        self._no_answer = str(error)
        return Change(job, job.status, due_at=self.due_in(self.settings.retry_delay.min))

    def _unsure(self, job: Job, outcome: object, method: str = "run") -> Change:
        """The class of the system failed in a way it should not: whether the system has the job is not known.

        The job stays `submitting`, charged with a crash, so that the next claim asks the system for it by name first.
        """
        if isinstance(outcome, BaseException):
            text = "".join(traceback.format_exception(outcome))
        else:
            text = f"{method}() returned {outcome!r} instead of a native id"
        events.emit("system.error", system=self.name, job=job.text_id, error=repr(outcome), traceback=text)
        delay = min(2.0 ** (job.lease.crashes + 1), 30.0)
        return Change(job, job.status, crash=f"{self.name}.{method}: {outcome!r}", due_at=self.due_in(delay))


def _waits_since(job: Job, now: datetime) -> datetime:
    """When it came to its system's lane for the first time."""
    entries = takewhile(lambda entry: entry.status in _ON_THE_WAY, reversed(job.history))
    return min((entry.at for entry in entries), default=now)


_ON_THE_WAY = frozenset({Status.TO_BE_SUBMITTED, Status.SUBMITTING})
_LONGEST_TURN = 5.0
"""Seconds after which a turn claims no more: it ends when all that it claimed is done."""
_TAKEN = frozenset({Status.SUBMITTED, Status.PENDING, Status.RUNNING})
