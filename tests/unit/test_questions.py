"""The question about many jobs: what fails for one of them is that one's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from execution_engine.engine.questions import Questions
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.execution_systems import Context, ExecutionSystem, Options
from tests.support.clocks import HeldClock


class Touchy(ExecutionSystem):
    """Answers as it is told to about some jobs."""

    def __init__(self, root: Path, answers: dict[str, Any]) -> None:
        super().__init__(Context("odd", root), Options())
        self.answers = answers
        self.questions = 0

    def run(self, job: Job) -> str:
        return job.text_id

    def kill(self, job: Job) -> None:
        raise AssertionError(f"nobody asked for it: {job}")

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        self.questions += 1
        return super().get_statuses(jobs)

    def get_status(self, job: Job) -> Any:
        answer = self.answers.get(job.text_id, Status.RUNNING)
        if isinstance(answer, Exception):
            raise answer
        return answer


def jobs(number: int) -> list[Job]:
    return [Job.from_document({"_id": f"job{each}", "status": "running", "command": ["true"]}) for each in range(number)]


@pytest.mark.parametrize(
    "answer", [ValueError("a bug"), ExecutionSystemError("it has no directory yet"), None, "gone", Status.BUILDING, ["running"]]
)
def test_what_fails_for_one_job_is_left_out_for_a_while_and_the_others_are_answered(
    tmp_path: Path, clock: HeldClock, answer: Any
) -> None:
    system = Touchy(tmp_path, {"job700": answer})
    questions = Questions(system, clock, lambda: None)
    statuses = questions.statuses(jobs(1000))
    assert statuses == {f"job{each}": Status.RUNNING for each in range(1000) if each != 700}
    assert system.questions <= 30, "halves are asked about, not each"
    system.questions = 0
    assert len(questions.statuses(jobs(1000))) == 999
    assert system.questions == 1
    del system.answers["job700"]
    clock.move(61)
    assert len(questions.statuses(jobs(1000))) == 1000


def test_a_system_that_is_away_is_asked_once(tmp_path: Path, clock: HeldClock) -> None:
    system = Touchy(tmp_path, {f"job{each}": ExecutionSystemError("no answer", transient=True) for each in range(1000)})
    with pytest.raises(ExecutionSystemError, match="no answer"):
        Questions(system, clock, lambda: None).statuses(jobs(1000))
    assert system.questions == 1


def test_a_class_that_fails_for_every_job_is_not_asked_about_each(tmp_path: Path, clock: HeldClock) -> None:
    system = Touchy(tmp_path, {f"job{each}": ValueError("a bug") for each in range(1000)})
    with pytest.raises(ExecutionSystemError, match="a bug") as caught:
        Questions(system, clock, lambda: None).statuses(jobs(1000))
    assert caught.value.transient
    assert system.questions <= 120


def test_documents_that_no_system_can_be_asked_about_are_no_outage_however_many(tmp_path: Path, clock: HeldClock) -> None:
    system = Touchy(tmp_path, {f"job{each}": ExecutionSystemError("it has no directory yet") for each in range(200)})
    assert Questions(system, clock, lambda: None).statuses(jobs(200)) == {}
