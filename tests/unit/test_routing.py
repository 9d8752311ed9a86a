"""Routes and the dispatcher: who takes a job, and what is remembered of the decision."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from execution_engine import events
from execution_engine.job_routing.dispatcher import Dispatcher
from execution_engine.job_routing.route import Route, Rule
from execution_engine.jobs.job import Asked, Job

JOB = Job.from_document({"_id": "j1", "status": "to be built", "command": ["true"]})


@pytest.fixture
def told() -> Iterator[list[events.Record]]:
    records: list[events.Record] = []
    events.send_to(records.extend, process="test")
    yield records
    events.send_to(events.discard, process="execd")


def rule(name: str, function: Callable[[Job], Any], **parameters: Any) -> Rule:
    return Rule(name, parameters, function)


def yes(_job: Job) -> bool:
    return True


def no(_job: Job) -> bool:
    return False


def fails(job: Job) -> bool:
    return bool({}[job.text_id])


def test_the_first_route_whose_rules_all_say_yes_takes_the_job() -> None:
    first = Route("first", (rule("a", yes), rule("b", no), rule("c", yes)), "one")
    second = Route("second", (rule("a", yes), rule("c", yes)), "two")
    third = Route("third", (), "three")
    decision = Dispatcher((first, second, third)).route(JOB)
    assert decision.route is second
    assert [(asked.route, asked.rule, asked.answer) for asked in decision.why] == [
        ("first", "a", True),
        ("first", "b", False),
        ("second", "a", True),
        ("second", "c", True),
    ]


def test_a_route_without_rules_takes_every_job() -> None:
    decision = Dispatcher((Route("default", (), "here"),)).route(JOB)
    assert decision.route is not None
    assert (decision.route.name, decision.route.system, decision.why) == ("default", "here", ())


def test_a_job_that_no_route_takes_has_no_route_but_all_answers() -> None:
    decision = Dispatcher((Route("r", (rule("a", no),), "here"),)).route(JOB)
    assert decision.route is None
    assert decision.why == (Asked(route="r", rule="a", answer=False),)


def test_a_rule_that_raises_says_no_and_tells_why(told: list[events.Record]) -> None:
    decision = Dispatcher((Route("r", (rule("bad", fails), rule("next", yes)), "here"), Route("d", (), "here"))).route(JOB)
    assert decision.why == (Asked(route="r", rule="bad", answer=False, error="KeyError: 'j1'"),)
    assert decision.route is not None
    assert decision.route.name == "d"
    (record,) = told
    assert (record["event"], record["rule"], record["route"], record["job"]) == ("rule.failed", "bad", "r", "j1")
    assert "in fails" in record["traceback"]


@pytest.mark.parametrize("value", ["no", "yes", "", 1, 0, None, [0], [], object])
def test_an_answer_that_is_neither_true_nor_false_is_a_no_and_told(value: object, told: list[events.Record]) -> None:
    asked = rule("r", lambda _job: value).ask(JOB, "route")
    assert asked.answer is False
    assert f"it answered {value!r}; expected True or False" in str(asked.error)
    assert told[0]["event"] == "rule.failed"


def test_an_answer_that_cannot_even_be_shown_is_a_no() -> None:
    class Neither:
        def __bool__(self) -> bool:
            raise ValueError("neither")

        def __repr__(self) -> str:
            raise ValueError("neither")

    asked = rule("r", lambda _job: Neither()).ask(JOB, "route")
    assert (asked.answer, "expected True or False" in str(asked.error)) == (False, True)


def test_a_rule_that_exits_ends_no_actor() -> None:
    def exits(_job: Job) -> bool:
        sys.exit("no")

    assert rule("r", exits).ask(JOB, "route") == Asked(route="route", rule="r", answer=False, error="SystemExit: no")


def test_a_rule_is_shown_with_its_parameters() -> None:
    assert (
        rule("memory_at_least", yes, amount="8G", strict=True, of=["a", 1]).label
        == 'memory_at_least(amount=8G, strict=true, of=["a", 1])'
    )
