"""A submit actor that takes up what another one had begun, and one whose system takes jobs ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.engine.actor import Workplace
from execution_engine.engine.assembly import Site, assemble, lane
from execution_engine.engine.channel import Channel
from execution_engine.engine.submit_actor import SubmitActor
from execution_engine.errors import ExecutionSystemError, SystemClosed, SystemFull
from execution_engine.jobs.exit_record import START_MARKER, is_prevented
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Claimed, Filter, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Health, Options
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job
from tests.support.jobs import job as a_document

LEASE = 60.0
JOBS = 10


def test_looking_for_many_jobs_may_take_longer_than_the_lease(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> None:
    taken: list[Claimed] = []

    class Slow(ExecutionSystem):
        """Has none of the jobs, and takes its time to say so."""

        def run(self, job: Job) -> str:
            return job.text_id

        def get_status(self, job: Job) -> Status:
            return job.status

        def kill(self, job: Job) -> None:
            raise NotImplementedError

        def find(self, job: Job) -> None:
            del job
            clock.move(LEASE / 3)
            until = clock.now() + timedelta(seconds=LEASE)
            taken.extend(store.claim(Query(Work.SUBMIT, here), "f/submit-1", JOBS, clock.now(), until))

    site = assemble(configuration(tmp_path, engine={"lease": LEASE, "actor_linger": 0}))
    here = lane(site.systems["here"])
    begun = {"status": "submitting", "due_at": clock.now(), "execution": {"lane": here, "system": "here", "name": "n"}}
    store.insert([{**a_job(), **begun} for _ in range(JOBS)])
    work(site, store, clock, Slow(Context("here", tmp_path), Options()))
    assert not taken
    assert store.count() == {"submitted": JOBS}


def test_a_job_that_cannot_be_looked_for_keeps_no_other_back_and_ends_in_no_error(
    tmp_path: Path, clock: HeldClock, store: SqliteJobStore
) -> None:
    class Touchy(ExecutionSystem):
        """Raises where it is to look for one of the jobs."""

        def run(self, job: Job) -> str:
            return job.text_id

        def get_status(self, job: Job) -> Status:
            return job.status

        def kill(self, job: Job) -> None:
            raise NotImplementedError

        def find(self, job: Job) -> None:
            if job.name == "odd":
                raise ValueError("a bug of the plug-in")

    site = assemble(configuration(tmp_path, engine={"actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    begun = {"status": "submitting", "due_at": clock.now(), "execution": execution}
    store.insert([{**a_job(name="odd" if each == 3 else ""), **begun} for each in range(JOBS)])
    for _ in range(5):
        work(site, store, clock, Touchy(Context("here", tmp_path), Options()))
        clock.move(31)
    assert store.count() == {"submitted": JOBS - 1, "submitting": 1}, "its system may have it"


def test_a_job_of_which_only_a_silent_accounting_could_tell_keeps_the_lane_open(
    tmp_path: Path, clock: HeldClock, store: SqliteJobStore
) -> None:
    """It was started, and has left the queue; the queue answers, and takes jobs."""

    class Deaf(ExecutionSystem):
        """Its accounting cannot be asked."""

        asked = 0

        def run(self, job: Job) -> str:
            return job.text_id

        def get_status(self, job: Job) -> Status:
            return job.status

        def kill(self, job: Job) -> None:
            raise NotImplementedError

        def find_many(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
            self.asked += 1
            yield from ((job, "7") for job in jobs if job.name == "queued")
            if any(job.name == "gone" for job in jobs):
                raise ExecutionSystemError("qacct gave no answer within 50 s", transient=True)

        def probe(self) -> Health:
            return Health(True)

    site = assemble(configuration(tmp_path, engine={"actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    begun = {"status": "submitting", "due_at": clock.now(), "execution": execution}
    store.insert([{**a_job(_id=f"{name}{each}", name=name), **begun} for each in range(2) for name in ("gone", "queued")])
    store.insert([{**a_job(_id="new"), **begun, "status": "to be submitted"}])
    system = Deaf(Context("here", tmp_path), Options())
    for _ in range(3):
        work(site, store, clock, system)
    assert system.asked == 1, "and the accounting is not asked for each of them, nor again and again"
    assert store.count() == {"submitted": 3, "submitting": 2}
    clock.move(60)
    work(site, store, clock, system)
    assert system.asked == 2
    assert a_document(store, "gone0").lease.crashes == 0
    assert a_document(store, "gone0").status is Status.SUBMITTING


class Ahead(ExecutionSystem):
    """Starts a job when its outcome is asked for; from the one named `full` on it has no room."""

    takes_ahead = True

    def __init__(self, directory: Path, full: str = "") -> None:
        super().__init__(Context("here", directory), Options())
        self.full = full
        self.seen: list[str] = []

    def run(self, job: Job) -> str:
        raise NotImplementedError

    def run_many(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        self.seen.append("+".join(job.name for job in jobs))
        return self._outcomes(jobs)

    def _outcomes(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            self.seen.append(job.name)
            is_full = self.full and job.name >= self.full
            yield job, SystemFull("no room") if is_full else job.text_id

    def get_status(self, job: Job) -> Status:
        return job.status

    def kill(self, job: Job) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("full", "seen", "submitted"),
    [
        ("", "a+b+c+d a b e+f+g+h c d e f i g h i", 9),
        ("b", "a+b+c+d a b c d", 1),
        ("g", "a+b+c+d a b e+f+g+h c d e f i g h i", 6),
    ],
    ids=["room for all", "full at once", "full later"],
)
def test_the_next_batch_is_handed_over_before_the_last_of_one_have_started(
    tmp_path: Path, clock: HeldClock, store: SqliteJobStore, full: str, seen: str, submitted: int
) -> None:
    site = assemble(configuration(tmp_path, engine={"batch": 4, "actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    store.insert([{**a_job(name=name), "status": "to be submitted", "execution": execution} for name in "abcdefghi"])
    system = Ahead(tmp_path, full)
    work(site, store, clock, system)
    assert " ".join(system.seen) == seen
    assert store.count().get("submitted") == submitted
    assert store.count().get("submitting") is None


class Closing(Ahead):
    """Takes so many jobs at a time, and no more; or none, because it is closed."""

    takes_ahead = False

    def __init__(self, directory: Path, takes: int, error: type[SystemFull | SystemClosed]) -> None:
        super().__init__(directory)
        self.takes = takes
        self.error = error

    def _outcomes(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        for number, job in enumerate(jobs):
            yield job, job.text_id if number < self.takes else self.error("no more")


@pytest.mark.parametrize("error", [SystemFull, SystemClosed])
def test_a_system_that_takes_no_more_is_left_alone_and_the_histories_do_not_grow(
    tmp_path: Path, clock: HeldClock, store: SqliteJobStore, error: type[SystemFull | SystemClosed]
) -> None:
    site = assemble(configuration(tmp_path, engine={"batch": 4, "actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    store.insert([{**a_job(name=name), "status": "to be submitted", "execution": execution} for name in "abcdefghi"])
    system = Closing(tmp_path, 2, error)
    told = work(site, store, clock, system)
    assert system.seen == ["a+b+c+d"]
    assert told["refused"] == {"why": "no more", "closed": error is SystemClosed, "taken": 2, "since": clock.monotonic()}
    assert store.count() == {"to be submitted": 7, "submitted": 2}
    assert all(not job.history for job in store.find(Filter(statuses=[Status.TO_BE_SUBMITTED])) if isinstance(job, Job))
    told = work(site, store, clock, system, resting=True)
    assert system.seen[1:] == ["c", "d+e", "f+g+h+i"]
    assert told["refused"]["taken"] == 2


def test_the_rest_is_over_when_all_that_waited_were_taken(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> None:
    site = assemble(configuration(tmp_path, engine={"batch": 4, "actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    store.insert([{**a_job(name=name), "status": "to be submitted", "execution": execution} for name in "abcdefghi"])
    system = Closing(tmp_path, 9, SystemFull)
    told = work(site, store, clock, system, resting=True)
    assert system.seen == ["a", "b+c", "d+e+f+g", "h+i"]
    assert told["takes"]
    assert "refused" not in told


class Refusing(Ahead):
    """Has none of the jobs under its name, and refuses them all for good."""

    takes_ahead = False

    def _outcomes(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            yield job, ExecutionSystemError("no such queue")


@pytest.mark.parametrize("case", ["refused", "kill", "hold", "crashed"])
def test_a_job_whose_command_an_earlier_submission_started_does_not_end_as_one_that_never_did(
    tmp_path: Path, clock: HeldClock, store: SqliteJobStore, case: str
) -> None:
    """Its actor died over the answer, and the system denies it."""
    site = assemble(configuration(tmp_path, engine={"actor_linger": 0}))
    execution = {"lane": lane(site.systems["here"]), "system": "here", "name": "n"}
    begun = {"status": "submitting", "due_at": clock.now(), "execution": execution, "attempt": 1}
    asked = {"request": case} if case in {"kill", "hold"} else {}
    crashed = {"lease": {"crashes": 9, "token": 1}} if case == "crashed" else {}
    for name in ("started", "waits"):
        (tmp_path / name / ".execd").mkdir(parents=True)
        store.insert([{**a_job(_id=name), **begun, **asked, **crashed, "dir": str(tmp_path / name)}])
    (tmp_path / "started" / START_MARKER).write_text("execd-start-1 attempt=1 pid=7 host=n1 end\n")
    work(site, store, clock, Refusing(tmp_path))
    jobs = {name: a_document(store, name) for name in ("started", "waits")}
    ends = {"refused": "error", "kill": "killed", "hold": "hold", "crashed": "error"}
    assert jobs["waits"].status == ends[case]
    assert is_prevented(tmp_path / "waits")
    if case == "crashed":
        error = jobs["started"].error
        assert error is not None
        assert "its command has started all the same" in error.message
    else:
        assert jobs["started"].status is Status.SUBMITTING


def work(
    site: Site, store: SqliteJobStore, clock: HeldClock, system: ExecutionSystem, *, resting: bool = False
) -> dict[str, Any]:
    """Lets an actor submit to the system until it finds no more to do; returns what it told last of each kind."""
    monitor, end = Channel.pair()
    actor = SubmitActor(Workplace(site, store, clock, end, owner="e/submit-1", resting=resting), "here")
    actor.system = system
    assert actor.run() == 0
    told: dict[str, Any] = {}
    while (message := monitor.receive()) is not None:
        told.update(message)
    monitor.close()
    end.close()
    return told
