"""What the monitor makes of a system that works and takes no jobs."""

from __future__ import annotations

import pytest

from execution_engine.config import PollInterval
from execution_engine.engine.rests import Rests
from tests.support.clocks import HeldClock


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def rests(clock: HeldClock) -> Rests:
    rests = Rests(clock)
    rests.delays = PollInterval(min=1.0, max=60.0)
    return rests


def refused(rests: Rests, clock: HeldClock, *, closed: bool = True, taken: int = 0) -> None:
    rests.refused("pbs", "Queue is not enabled", closed=closed, taken=taken, since=clock.monotonic())


def waits(rests: Rests, clock: HeldClock) -> float:
    """Seconds until it is tried again."""
    seconds = 0.0
    while rests.waits("pbs"):
        clock.move(0.5)
        seconds += 0.5
    return seconds


def test_the_wait_grows_to_the_longest_while_nothing_is_taken(rests: Rests, clock: HeldClock) -> None:
    seen = []
    for _ in range(8):
        refused(rests, clock)
        seen.append(waits(rests, clock))
    assert seen == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_job_that_was_taken_in_between_makes_it_short_again(rests: Rests, clock: HeldClock) -> None:
    for taken, wait in ((0, 1.0), (0, 2.0), (3, 1.0), (0, 2.0)):
        refused(rests, clock, closed=False, taken=taken)
        assert waits(rests, clock) == wait


@pytest.mark.parametrize("closed", [True, False])
def test_the_end_of_a_job_makes_room_where_it_is_full_and_none_where_it_is_closed(
    rests: Rests, clock: HeldClock, closed: bool
) -> None:
    refused(rests, clock, closed=closed)
    rests.room("pbs")
    assert rests.waits("pbs") is closed


def test_an_end_that_came_after_the_look_is_not_forgotten(rests: Rests, clock: HeldClock) -> None:
    looked = clock.monotonic()
    clock.move(0.1)
    rests.room("pbs")
    rests.refused("pbs", "full", closed=False, taken=0, since=looked)
    assert not rests.waits("pbs")


def test_two_refusals_of_one_try_count_once(rests: Rests, clock: HeldClock) -> None:
    refused(rests, clock)
    refused(rests, clock)
    assert waits(rests, clock) == 1.0


def test_it_is_told_as_full_or_closed_until_all_was_taken(rests: Rests, clock: HeldClock) -> None:
    assert rests.describe("pbs") is None
    refused(rests, clock, closed=False)
    since = clock.now().isoformat()
    assert rests.describe("pbs") == {"since": since, "why": "Queue is not enabled", "state": "full", "tries": 1}
    refused(rests, clock, closed=True)
    described = rests.describe("pbs")
    assert described is not None
    assert described["state"] == "closed"
    rests.over("pbs")
    assert rests.describe("pbs") is None
    assert not rests.waits("pbs")


def test_a_new_configuration_is_tried_at_once(rests: Rests, clock: HeldClock) -> None:
    refused(rests, clock)
    rests.try_again()
    assert not rests.waits("pbs")
