"""A job whose directory does not tell whether its command has started, or is nowhere, costs itself alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from execution_engine.engine.accounting_actor import AccountingActor
from execution_engine.engine.actor import Actor, Workplace
from execution_engine.engine.assembly import assemble, lane
from execution_engine.engine.building_actor import BuildingActor
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.request_actor import RequestActor
from execution_engine.engine.status_actor import StatusActor
from execution_engine.engine.submit_actor import SubmitActor
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Options
from tests.support.building import configuration
from tests.support.clocks import HeldClock
from tests.support.jobs import a_job, job


class Refusing(ExecutionSystem):
    """Has no job, and takes none of those that are called `odd`."""

    def __init__(self, root: Path) -> None:
        super().__init__(Context("here", root), Options())

    def run(self, job: Job) -> str:
        if job.text_id.startswith("odd"):
            raise ExecutionSystemError("no such queue")
        return "1"

    def get_status(self, job: Job) -> Status:
        return Status.UNKNOWN if job.execution.job_no else job.status

    def kill(self, job: Job) -> None:
        pass


class Desk:
    """Actors on one store, and what they tell the monitor."""

    def __init__(self, root: Path, store: SqliteJobStore, clock: HeldClock, channels: tuple[Channel, Channel]) -> None:
        self.root, self.store, self.clock = root, store, clock
        self.monitor, self._end = channels
        self._site = assemble(configuration(root, engine={"actor_linger": 0, "grace": 0}))
        self.lane = lane(self._site.systems["here"])
        (root / "loop").symlink_to("loop")
        self.closed = str(root / "loop" / "job")
        """where nobody can make or read anything, root neither"""

    def put(self, name: str, status: str, directory: str, **more: Any) -> None:
        execution = {"lane": self.lane, "system": "here", "name": name, **more.pop("execution", {})}
        self.store.insert([{**a_job(_id=name), "status": status, "dir": directory, "attempt": 1, "execution": execution, **more}])

    def run(self, make: Callable[[Workplace], Actor]) -> list[Message]:
        """What the actor tells of outages."""
        make(Workplace(self._site, self.store, self.clock, self._end, owner="e/actor-1")).run()
        told: list[Message] = []
        while (message := self.monitor.receive()) is not None:
            told.append(message)
        return [message for message in told if "outage" in message]


@pytest.fixture
def desk(tmp_path: Path, clock: HeldClock, store: SqliteJobStore) -> Iterator[Desk]:
    channels = Channel.pair()
    yield Desk(tmp_path, store, clock, channels)
    for end in channels:
        end.close()


def status_of(workplace: Workplace) -> Actor:
    actor = StatusActor(workplace, "here")
    actor.ask(Refusing(Path("/")))
    return actor


def submitting(workplace: Workplace) -> Actor:
    actor = SubmitActor(workplace, "here")
    actor.system = Refusing(Path("/"))
    return actor


def test_a_request_for_such_a_job_holds_up_no_other_request(desk: Desk) -> None:
    for number in range(3):
        desk.put(f"odd{number}", "to be submitted", desk.closed, request="kill")
        desk.put(f"fine{number}", "to be submitted", str(desk.root / "none"), request="kill")
    assert desk.run(lambda workplace: RequestActor(workplace, None)) == []
    assert [job(desk.store, f"fine{number}").status for number in range(3)] == [Status.KILLED] * 3
    assert job(desk.store, "odd0").request == "kill", "and it is asked again"


@pytest.mark.parametrize("why", [{"request": "hold"}, {"lease": {"token": 1, "crashes": 99, "crash": "died"}}])
def test_such_a_job_holds_up_no_submission(desk: Desk, why: dict[str, Any]) -> None:
    desk.put("odd", "to be submitted", desk.closed, due_at=desk.clock.now(), **why)
    desk.put("fine", "to be submitted", str(desk.root / "none"), due_at=desk.clock.now())
    assert desk.run(submitting) == []
    assert job(desk.store, "fine").execution.job_no == "1"
    assert job(desk.store, "odd").status not in (Status.ERROR, Status.HOLD)


def test_such_a_job_that_is_refused_holds_up_no_submission(desk: Desk) -> None:
    for name, directory in (("odd1", desk.closed), ("fine", str(desk.root / "none"))):
        desk.put(name, "to be submitted", directory, due_at=desk.clock.now())
    assert desk.run(submitting) == []
    assert job(desk.store, "fine").execution.job_no == "1"
    assert job(desk.store, "odd1").status is Status.SUBMITTING


def test_a_job_whose_directory_is_nowhere_is_no_outage_and_can_be_killed(desk: Desk) -> None:
    """It was in a `jobs_dir` of before, or an app wrote it."""
    (desk.root / "jobs").mkdir(exist_ok=True)
    sent = {"what": "kill", "at": desk.clock.now(), "why": "", "sent": True}
    on_system = {"execution": {"job_no": "7"}}
    desk.put("nowhere", "running", "/nonexistent/p/00/nowhere", **on_system)
    desk.put("killed", "running", "/nonexistent/p/00/killed", requested=sent, **on_system)
    assert desk.run(status_of) == []
    assert job(desk.store, "nowhere").status is Status.UNKNOWN
    assert desk.run(status_of) == []
    assert job(desk.store, "nowhere").status is Status.UNKNOWN, "its own file system may be away"
    assert job(desk.store, "killed").status is Status.KILLED
    assert desk.run(lambda workplace: AccountingActor(workplace, "here")) == []
    assert job(desk.store, "nowhere").status is Status.UNKNOWN


def test_a_crash_at_building_of_such_a_job_holds_up_no_other(desk: Desk) -> None:
    desk.put("odd", "building", desk.closed, due_at=desk.clock.now(), lease={"token": 1, "crashes": 99, "crash": "died"})
    desk.put("fine", "to be built", str(desk.root / "none"), due_at=desk.clock.now())
    assert desk.run(BuildingActor) == []
    assert job(desk.store, "fine").status is Status.TO_BE_SUBMITTED
