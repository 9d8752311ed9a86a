"""The table of what becomes of a job whose process died agrees with the table of transitions, and is what the code does."""

from __future__ import annotations

import pytest

from execution_engine.jobs.recovery import BEGINS, BEGUN, RECOVERY, Due
from execution_engine.jobs.status import FINAL, ON_SYSTEM, TRANSITIONS, Status
from execution_engine.store.changes import due_after_release
from execution_engine.store.job_store import CLAIMS, REQUESTABLE
from tests.support.jobs import later, now


def test_every_status_has_its_recovery() -> None:
    assert set(RECOVERY) == set(Status)


def test_a_claim_begins_only_what_the_table_of_transitions_allows() -> None:
    assert all(begun in TRANSITIONS[waiting] for waiting, begun in BEGINS.items())


def test_what_an_actor_has_begun_is_claimed_again_as_it_is() -> None:
    for statuses in CLAIMS.values():
        ((waiting, begun), (again, same)) = statuses.items()
        assert BEGINS[waiting] is begun is again is same
    assert {status for statuses in CLAIMS.values() for status in statuses} == set(BEGINS) | BEGUN
    assert not BEGUN & REQUESTABLE, "its actor sees the request"


def test_nothing_that_waits_for_an_actor_is_left_lying() -> None:
    at_once = {status for status, recovery in RECOVERY.items() if recovery.due is Due.AT_ONCE}
    assert at_once == set(BEGINS) | BEGUN


@pytest.mark.parametrize("status", Status)
def test_a_release_makes_a_job_due_as_the_table_says(status: Status) -> None:
    moment = later()
    untold, told = (due_after_release(status, notified, moment) for notified in (None, now()))
    assert (untold, told) == {
        Due.AT_ONCE: (moment, moment),
        Due.UNTIL_TOLD: (moment, None),
        Due.WITH_ITS_SYSTEM: (None, None),
        Due.NEVER: (None, None),
    }[RECOVERY[status].due]


def test_a_system_is_asked_about_its_jobs_and_owners_are_told_until_it_worked() -> None:
    assert {RECOVERY[status].due for status in ON_SYSTEM} == {Due.WITH_ITS_SYSTEM}
    assert {RECOVERY[status].due for status in FINAL} == {Due.UNTIL_TOLD}
