"""When what does not answer is tried again."""

from __future__ import annotations

from execution_engine.config import PollInterval
from execution_engine.engine.outages import Outages
from tests.support.clocks import HeldClock


def test_the_end_of_each_wait_is_told_once() -> None:
    clock = HeldClock()
    outages = Outages(clock)
    outages.delays = PollInterval(min=1.0, max=4.0)
    assert not outages.any_again()
    outages.report("system cluster", "no answer")
    assert not outages.any_again()
    clock.move(1.5)
    assert [outages.any_again(), outages.any_again()] == [True, False]
    outages.report("system cluster", "no answer")
    clock.move(1.5)
    assert not outages.any_again(), "the wait has become longer"
    clock.move(1.0)
    assert outages.any_again()


def test_what_answers_again_needs_no_other_look() -> None:
    clock = HeldClock()
    outages = Outages(clock)
    outages.report("system cluster", "no answer")
    outages.over("system cluster")
    clock.move(100.0)
    assert not outages.any_again()


def test_a_try_that_began_in_an_outage_that_is_over_does_not_begin_another() -> None:
    clock = HeldClock()
    outages = Outages(clock)
    outages.report("database", "no answer")
    clock.move(1.0)
    began_in_it = clock.monotonic()
    clock.move(1.0)
    outages.over("database")
    outages.report("database", "timed out", since=began_in_it)
    assert outages.error("database") is None
    outages.report("database", "timed out", since=clock.monotonic())
    assert outages.error("database") == "timed out"


def test_a_try_after_the_moment_in_which_it_answered_counts_even_if_that_was_told_late() -> None:
    clock = HeldClock()
    outages = Outages(clock)
    outages.report("system here", "no answer")
    answered = clock.monotonic()
    clock.move(0.1)
    began = clock.monotonic()
    clock.move(0.1)
    outages.over("system here", at=answered)
    outages.report("system here", "no answer", since=began)
    assert outages.error("system here") == "no answer"


def test_a_new_configuration_ends_the_wait_and_drops_what_it_has_no_more() -> None:
    outages = Outages(HeldClock())
    outages.report("system cluster", "no such command")
    outages.report("system removed", "no such command")
    assert outages.waits("system cluster")
    outages.reconsider({"system cluster", "system new"})
    assert not outages.waits("system cluster")
    assert [outage["what"] for outage in outages.report_all()] == ["system cluster"]
