"""Rules: which functions can be one, what their parameters may be, and what the built-in ones answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from execution_engine.clock import SystemClock
from execution_engine.errors import PluginError
from execution_engine.job_routing import builtin, rules
from execution_engine.jobs.job import Job


class StillClock(SystemClock):
    """A clock that shows one moment."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


def job(**fields: Any) -> Job:
    return Job.from_document({"_id": 1, "status": "to be built", "command": ["true"], **fields})


def answer(rule: str, asked: Job, clock: SystemClock | None = None, **parameters: Any) -> bool:
    return bool(rules.registered()[rule].bound(parameters, clock or SystemClock())(asked))


@pytest.fixture
def registry_as_before() -> Iterator[None]:
    before = dict(rules.registry)
    yield
    rules.registry.clear()
    rules.registry.update(before)


# --- registration


def test_a_registered_function_is_a_rule_and_stays_the_function_it_was(registry_as_before: None) -> None:
    def starts_with(job: Any, letter: Any = "a") -> bool:
        return bool(job.name.startswith(letter))

    assert rules.register(starts_with) is starts_with
    assert answer("starts_with", job(name="abc"))
    assert not answer("starts_with", job(name="abc"), letter="b")


def _nothing() -> bool:
    return True


def _only_by_name(*, job: Any) -> bool:
    return True


def _many(job: Any, *names: Any) -> bool:
    return True


def _anything(job: Any, **names: Any) -> bool:
    return True


def _by_position(job: Any, name: Any, /) -> bool:
    return True


async def _later(job: Any) -> bool:
    return False


def _generator(job: Any) -> Iterator[bool]:
    yield False


def _bad_type(job: Any, name: NoSuchType) -> bool:  # type: ignore[name-defined]  # noqa: F821
    return True


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_nothing, "must take the job"),
        (_only_by_name, "must take the job"),
        (_many, "cannot be given by name"),
        (_anything, "cannot be given by name"),
        (_by_position, "cannot be given by name"),
        (_later, "plain function"),
        (_generator, "plain function"),
        (_bad_type, "NoSuchType"),
        (len, "is not a function"),
        ("owner", "is not a function"),
        (builtin.owner, "two rules are called owner"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_at_once(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(PluginError, match=reason):
        rules.register(function)


def test_a_type_of_the_job_that_only_a_checker_knows_does_no_harm(registry_as_before: None) -> None:
    def of_somebody(job: OnlyForTheChecker, name: str = "x") -> bool:  # type: ignore[name-defined]  # noqa: F821
        return bool(job.owner == name)

    rules.register(of_somebody)
    assert answer("of_somebody", job(owner="x"))


def test_parameters_may_have_any_name(registry_as_before: None) -> None:
    def odd(job: Any, json: int, model_config: str, schema: str = "s") -> bool:
        return (json, model_config, schema) == (1, "m", "s")

    rules.register(odd)
    assert answer("odd", job(), json="1", model_config="m")


def test_parameters_that_are_unknown_missing_or_wrong_are_refused() -> None:
    for rule, parameters, where in (
        ("owner", {}, "names"),
        ("owner", {"names": ["a"], "nmes": ["b"]}, "nmes"),
        ("owner", {"names": []}, "names"),
        ("owner", {"names": 5}, "names"),
        ("memory_at_least", {"amount": "much"}, "amount"),
        ("walltime_at_most", {"duration": "long"}, "duration"),
        ("cores_at_least", {"count": "two"}, "count"),
        ("time_of_day", {"start": "25:00"}, "start"),
        ("time_of_day", {"end": 1080}, "end"),
        ("time_of_day", {"days": "someday"}, "days"),
        ("time_of_day", {"days": 1}, "days"),
        ("time_of_day", {"timezone": "Mars/Olympus"}, "timezone"),
    ):
        with pytest.raises(ValidationError) as caught:
            answer(rule, job(), **parameters)
        assert caught.value.errors()[0]["loc"][0] == where


def test_the_clock_is_not_a_parameter_of_the_configuration() -> None:
    with pytest.raises(ValidationError, match="clock"):
        rules.registered()["time_of_day"].bound({"clock": "x"}, SystemClock())


# --- the built-in rules


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("owner", {"owner": "alice"}),
        ("project", {"project": "alice"}),
        ("name", {"name": "alice"}),
        ("tag", {"tags": ["x", "alice"]}),
    ],
)
def test_names_match_by_pattern_one_or_several(rule: str, fields: dict[str, Any]) -> None:
    asked = job(**fields)
    assert answer(rule, asked, names="alice")
    assert answer(rule, asked, names=["bob", "al*"])
    assert answer(rule, asked, names="[ab]l?ce")
    assert not answer(rule, asked, names="Alice")
    assert not answer(rule, asked, names=["bob", "carol"])


def test_a_job_without_tags_or_name_matches_no_name() -> None:
    assert not answer("tag", job(), names="*")
    assert not answer("name", job(), names="?*")


@pytest.mark.parametrize(
    ("rule", "resources", "limit", "expected"),
    [
        ("cores_at_least", {"cores": 4}, {"count": 4}, True),
        ("cores_at_least", {"cores": 3}, {"count": 4}, False),
        ("cores_at_most", {"cores": 4}, {"count": 4}, True),
        ("cores_at_most", {"cores": 5}, {"count": 4}, False),
        ("gpus_at_least", {"gpus": 1}, {}, True),
        ("gpus_at_least", {}, {}, False),
        ("gpus_at_least", {"gpus": 1}, {"count": 2}, False),
        ("memory_at_least", {"memory": "8G"}, {"amount": "8G"}, True),
        ("memory_at_least", {"memory": "7G"}, {"amount": "8G"}, False),
        ("memory_at_most", {"memory": "8G"}, {"amount": "8G"}, True),
        ("memory_at_most", {"memory": "9G"}, {"amount": "8G"}, False),
        ("walltime_at_least", {"walltime": "2h"}, {"duration": "1h30m"}, True),
        ("walltime_at_least", {"walltime": "1h"}, {"duration": "1h30m"}, False),
        ("walltime_at_most", {"walltime": "1h"}, {"duration": "1h30m"}, True),
        ("walltime_at_most", {"walltime": "2h"}, {"duration": "1h30m"}, False),
    ],
)
def test_resources_are_compared_with_the_limit(
    rule: str, resources: dict[str, Any], limit: dict[str, Any], expected: bool
) -> None:
    assert answer(rule, job(resources=resources), **limit) is expected


@pytest.mark.parametrize("rule", ["memory_at_least", "memory_at_most", "walltime_at_least", "walltime_at_most"])
def test_a_job_that_does_not_say_what_it_needs_answers_no(rule: str) -> None:
    assert not answer(rule, job(), **{"amount" if "memory" in rule else "duration": 0})


@pytest.mark.parametrize(
    ("moment", "parameters", "expected"),
    [
        ("2026-11-20 07:59", {"start": "8:00", "end": "18:00"}, False),  # a Friday
        ("2026-11-20 08:00", {"start": "8:00", "end": "18:00"}, True),
        ("2026-11-20 17:59", {"start": "08:00", "end": "18:00"}, True),
        ("2026-11-20 18:00", {"start": "8:00", "end": "18:00"}, False),
        ("2026-11-20 12:00", {"days": "mon-fri"}, True),
        ("2026-11-21 12:00", {"days": "mon-fri"}, False),
        ("2026-11-21 12:00", {"days": "sat, sun"}, True),
        ("2026-11-21 12:00", {"days": ["fri-mon"]}, True),
        ("2026-11-25 12:00", {"days": ["fri-mon", "Wed"]}, True),
        ("2026-11-20 23:00", {"start": "22:00", "end": "6:00"}, True),
        ("2026-11-20 05:59", {"start": "22:00", "end": "6:00"}, True),
        ("2026-11-20 06:00", {"start": "22:00", "end": "6:00"}, False),
        ("2026-11-21 05:00", {"start": "22:00", "end": "6:00", "days": "fri"}, True),
        ("2026-11-20 05:00", {"start": "22:00", "end": "6:00", "days": "fri"}, False),
        ("2026-11-20 23:59", {"start": "22:00", "end": "24:00"}, True),
        ("2026-11-20 03:00", {"start": "9:00", "end": "9:00"}, True),
        ("2026-11-20 23:30", {"days": "sat", "timezone": "Europe/Paris"}, True),
        ("2026-11-20 23:30", {"start": "0:00", "end": "1:00", "timezone": "Europe/Paris"}, True),
    ],
)
def test_the_time_of_day_is_told_by_the_engines_clock(moment: str, parameters: dict[str, Any], expected: bool) -> None:
    clock = StillClock(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert answer("time_of_day", job(), clock, **{"timezone": "UTC", **parameters}) is expected


def test_without_a_timezone_the_machines_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    clock = StillClock(datetime(2026, 7, 20, 12, tzinfo=UTC))
    monkeypatch.setenv("TZ", "UTC+10")
    time.tzset()
    try:
        assert answer("time_of_day", job(), clock, start="2:00", end="3:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_every_builtin_rule_says_what_it_does() -> None:
    definitions = [rule for rule in rules.registered().values() if rule.__module__ == builtin.__name__]
    assert len(definitions) == 12
    assert all(definition.function.__doc__ for definition in definitions)
