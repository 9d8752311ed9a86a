"""What the monitor believes of a system that said that all of its slots are taken."""

from __future__ import annotations

import pytest

from execution_engine.config import PollInterval
from execution_engine.engine.systems_watch import SystemsWatch
from tests.support.clocks import HeldClock

INTERVAL = PollInterval(min=0.1, max=2.0)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def watch(clock: HeldClock) -> SystemsWatch:
    watch = SystemsWatch(clock)
    watch.set_systems([{"name": "here", "lane": "here@host", "slots": 2}], INTERVAL)
    clock.move(1.0)
    return watch


def test_a_full_system_is_left_alone_until_a_job_has_ended(watch: SystemsWatch, clock: HeldClock) -> None:
    watch.full("here", full=True, looked=clock.monotonic())
    assert not watch.may_submit("here")
    watch.room("here")
    assert watch.may_submit("here")


def test_an_end_that_came_after_the_look_is_not_forgotten(watch: SystemsWatch, clock: HeldClock) -> None:
    looked = clock.monotonic()
    clock.move(0.1)
    watch.room("here")
    watch.full("here", full=True, looked=looked)
    assert watch.may_submit("here")


def test_what_the_system_itself_has_to_say_may_be_that_there_is_room(watch: SystemsWatch, clock: HeldClock) -> None:
    watch.full("here", full=True, looked=clock.monotonic())
    watch.woken("here")
    assert watch.may_submit("here")


def test_after_a_while_it_is_looked_at_again_whatever_was_heard(watch: SystemsWatch, clock: HeldClock) -> None:
    watch.full("here", full=True, looked=clock.monotonic())
    clock.move(4.0)
    assert not watch.may_submit("here")
    clock.move(2.0)
    assert watch.may_submit("here")


def test_what_an_actor_found_by_the_slots_of_the_old_configuration_does_not_count(watch: SystemsWatch, clock: HeldClock) -> None:
    looked = clock.monotonic()
    clock.move(0.1)
    watch.set_systems([{"name": "here", "lane": "here@host", "slots": 8}], INTERVAL)
    watch.full("here", full=True, looked=looked)
    assert watch.may_submit("here")
