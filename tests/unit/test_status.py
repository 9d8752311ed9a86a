"""The table of transitions, the claims and the requests fit together: no status is a dead end, and somebody serves each."""

from __future__ import annotations

import pytest

from execution_engine.jobs.recovery import BEGINS, BEGUN
from execution_engine.jobs.status import FINAL, ON_SYSTEM, REQUESTS, RETRIES, RETRY, TRANSITIONS, Status, may_follow
from execution_engine.store.job_store import CLAIMS, REQUESTABLE

S = Status
BY_ITS_APP = frozenset({S.INIT})
BY_A_CLAIM = frozenset(status for taken in CLAIMS.values() for status in taken)
RESULTS = {
    "kill": S.KILLED,
    "hold": S.HOLD,
    "release": S.TO_BE_BUILT,
    "suspend": S.SUSPENDED,
    "resume": S.RUNNING,
    RETRY: S.TO_BE_BUILT,
}
"""What a request comes to, as an actor's own write or as what the system says afterwards."""


def reachable(start: Status) -> set[Status]:
    """All statuses that a job may come to from this one."""
    found, todo = {start}, [start]
    while todo:
        new = TRANSITIONS[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_every_status_that_is_not_final_has_somebody_who_moves_jobs_out_of_it() -> None:
    """An app, a claim of a building or submit actor, or the status actor, which asks about all that a system has."""
    assert set(Status) - FINAL == BY_ITS_APP | BY_A_CLAIM | ON_SYSTEM
    assert all(TRANSITIONS[status] for status in set(Status) - FINAL)


@pytest.mark.parametrize("status", Status)
def test_from_every_status_a_job_can_come_to_an_end(status: Status) -> None:
    assert FINAL & reachable(status)
    if status not in FINAL:
        assert reachable(status) >= FINAL


def test_a_draft_can_come_to_every_status() -> None:
    assert reachable(S.INIT) == set(Status)


@pytest.mark.parametrize("new_attempt", [False, True])
@pytest.mark.parametrize("new", Status)
@pytest.mark.parametrize("old", Status)
def test_a_final_status_is_a_sink_but_for_a_new_attempt(old: Status, new: Status, new_attempt: bool) -> None:
    if old in FINAL:
        assert may_follow(old, new, new_attempt=new_attempt) == (new_attempt and new is S.TO_BE_BUILT and old is not S.FINISHED)
    else:
        assert not may_follow(old, new, new_attempt=True)


def test_success_needs_a_system_that_had_the_job() -> None:
    assert {old for old, new in TRANSITIONS.items() if S.FINISHED in new} == ON_SYSTEM | {S.SUBMITTING}


@pytest.mark.parametrize("status", Status)
def test_no_status_follows_itself_and_none_leads_back_to_a_draft(status: Status) -> None:
    assert not may_follow(status, status)
    assert not may_follow(status, S.INIT)


@pytest.mark.parametrize("status", BEGINS)
def test_what_a_claim_begins_can_be_given_back(status: Status) -> None:
    assert may_follow(BEGINS[status], status)


@pytest.mark.parametrize("what", sorted(REQUESTS))
def test_a_request_that_makes_sense_can_be_carried_out(what: str) -> None:
    """By the request actor; or, of a job that an actor has just begun, by that actor or once it has given the job back."""
    for status in REQUESTS[what] - BEGUN:
        assert status in REQUESTABLE
        assert may_follow(status, RESULTS[what], new_attempt=what == RETRY) or status in ON_SYSTEM
    for status in REQUESTS[what] & BEGUN:
        assert may_follow(status, S.KILLED) if what == "kill" else (TRANSITIONS[status] & REQUESTS[what])


def test_a_kill_makes_sense_for_every_job_that_the_engine_has_and_that_has_not_ended() -> None:
    assert REQUESTS["kill"] == set(Status) - FINAL - {S.INIT}


def test_only_a_retry_is_asked_of_jobs_that_have_ended() -> None:
    assert {what for what, sensible in REQUESTS.items() if sensible & FINAL} == {RETRY}
    assert REQUESTS[RETRY] == set(RETRIES) < FINAL
