"""A request that cannot be carried out now is tried again after a while, whether the system is well or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from execution_engine.engine.actor import Workplace
from execution_engine.engine.assembly import assemble, lane
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.lifeline import EXIT_OUTAGE
from execution_engine.engine.request_actor import RequestActor
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import START_MARKER, is_prevented
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Health, Options
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, document, job

RETRY_DELAY = 60.0


class Faulty(ExecutionSystem):
    """Ends no job that is called `stuck`."""

    def __init__(self, root: Path, *, well: bool) -> None:
        super().__init__(Context("here", root), Options())
        self.well = well
        self.asked: list[str] = []
        self.listings = 0

    def run(self, job: Job) -> str:
        return job.text_id

    def get_status(self, job: Job) -> Status:
        return job.status

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        self.listings += 1
        return super().get_statuses(jobs)

    def kill(self, job: Job) -> None:
        self.asked.append(job.text_id)
        assert len(self.asked) < 20, "asked again and again"
        if job.text_id.startswith("stuck"):
            raise ExecutionSystemError("qdel: Connection timed out", transient=True)

    def probe(self) -> Health:
        return Health(self.well)


@dataclass
class Desk:
    """A request actor with a faulty system, and what it tells the monitor."""

    store: SqliteJobStore
    clock: HeldClock
    monitor: Channel
    make: Callable[[Faulty | None], RequestActor]
    lane: str
    told: list[Message] = field(default_factory=list)

    def running(self, *names: str, request: str = "kill") -> None:
        execution = {"lane": self.lane, "system": "here", "name": "n", "job_no": "1"}
        running = {"status": "running", "request": request, "execution": execution}
        self.store.insert([{**a_job(_id=name), **running} for name in names])

    def run(self, system: Faulty | None) -> int:
        code = self.make(system).run()
        while (message := self.monitor.receive()) is not None:
            self.told.append(message)
        return code


@pytest.fixture
def desk(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> Iterator[Desk]:
    config = configuration(tmp_path, engine={"actor_linger": 0, "retry_delay": {"max": RETRY_DELAY}})
    site = assemble(config)
    monitor, end = Channel.pair()

    def make(system: Faulty | None) -> RequestActor:
        actor = RequestActor(Workplace(site, store, clock, end, owner="e/request-1"), "here" if system else None)
        actor._system = system
        return actor

    yield Desk(store, clock, monitor, make, lane(site.systems["here"]))
    monitor.close()
    end.close()


def test_an_outage_ends_the_batch_and_leaves_the_pace_to_the_monitor(desk: Desk, tmp_path: Path) -> None:
    desk.running("fine", "stuck1", "stuck2", "last")
    system = Faulty(tmp_path, well=False)
    assert desk.run(system) == EXIT_OUTAGE
    assert len([name for name in system.asked if name.startswith("stuck")]) == 1, "the others would fare alike"
    assert desk.told[-1] == {"outage": "system", "error": "qdel: Connection timed out", "since": desk.clock.monotonic()}
    done = system.asked[:-1]
    assert [name for name in ("fine", "last") if job(desk.store, name).request is None] == done, "what was done is stored"
    assert job(desk.store, "stuck1").request == job(desk.store, "stuck2").request == "kill"


def test_a_job_that_cannot_be_killed_now_on_a_healthy_system_is_asked_for_again_after_a_while(desk: Desk, tmp_path: Path) -> None:
    desk.running("stuck", "fine")
    system = Faulty(tmp_path, well=True)
    for _ in range(3):
        assert desk.run(system) == 0
    assert sorted(system.asked) == ["fine", "stuck"], "one job's fault holds up no other, and is not asked for again at once"
    assert not [message for message in desk.told if "outage" in message]
    desk.clock.move(RETRY_DELAY / 4 + 1)
    assert desk.run(system) == 0
    assert system.asked.count("stuck") == 2
    assert job(desk.store, "stuck").request == "kill"


@pytest.mark.parametrize("request_", ["kill", "hold"])
def test_a_job_that_waits_is_kept_from_starting_by_an_earlier_submission_and_one_that_did_start_goes_on(
    desk: Desk, tmp_path: Path, request_: str
) -> None:
    """The answer to the submission got lost, and then the system said that it is full."""
    execution = {"lane": desk.lane, "system": "here", "name": "n"}
    waiting = {"status": "to be submitted", "request": request_, "execution": execution, "attempt": 1}
    for name in ("started", "waits"):
        (tmp_path / name / ".execd").mkdir(parents=True)
        desk.store.insert([{**a_job(_id=name), **waiting, "dir": str(tmp_path / name)}])
    (tmp_path / "started" / START_MARKER).write_text("execd-start-1 attempt=1 pid=7 host=n1 end\n")
    assert desk.run(None) == 0
    assert job(desk.store, "waits").status == {"kill": "killed", "hold": "hold"}[request_]
    assert is_prevented(tmp_path / "waits")
    assert job(desk.store, "started").status is Status.TO_BE_SUBMITTED
    assert "its command has started" in document(desk.store, "started")["refused"]["why"]


def test_one_question_tells_that_many_jobs_run_which_are_to_be_held(desk: Desk, tmp_path: Path) -> None:
    names = [f"job{number}" for number in range(20)]
    desk.running(*names, request="hold")
    system = Faulty(tmp_path, well=True)
    assert desk.run(system) == 0
    assert system.listings == 1
    assert {str(job(desk.store, name).request) for name in names} == {"None"}
    assert "runs already" in document(desk.store, names[-1])["refused"]["why"]
