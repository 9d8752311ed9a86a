"""Rules with their parameters, and routes made of them."""

from __future__ import annotations

import json
import reprlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from execution_engine import events
from execution_engine.jobs.job import Asked, Job


@dataclass(frozen=True)
class Rule:
    """A rule with the parameters that a route gives it.  `function` takes the job alone."""

    name: str
    parameters: Mapping[str, Any]
    function: Callable[[Job], Any]

    @cached_property
    def label(self) -> str:
        """For a person: `memory_at_least(amount=8G)`."""
        given = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in self.parameters.items())
        return f"{self.name}({', '.join(given)})" if self.parameters else self.name

    def ask(self, job: Job, route: str) -> Asked:
        """The rule's answer about a job, on behalf of a route.

        One that raises, or answers anything but True or False, says no; the event `rule.failed` tells why.
        """
        try:
            return Asked(route=route, rule=self.label, answer=_truth(self.function(job)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an administrator's code may raise anything, also `sys.exit()`
            text = "".join(traceback.format_exception_only(error)).strip()
            events.emit(
                "rule.failed",
                rule=self.label,
                route=route,
                job=job.text_id,
                error=text,
                traceback=traceback.format_exc(limit=-20),
            )
            return Asked(route=route, rule=self.label, answer=False, error=text)


def _truth(answer: object) -> bool:
    """True or False; anything else (`"no"`, None of a forgotten `return`) would count as what nobody meant."""
    if not isinstance(answer, bool):
        shown = reprlib.repr(answer)
        raise TypeError(f"it answered {shown}; expected True or False (for what is true or false otherwise: bool(…))")
    return answer


@dataclass(frozen=True, slots=True)
class Route:
    """Gives the jobs that all of its rules say yes to, to an execution system."""

    name: str
    rules: tuple[Rule, ...]
    system: str

    def ask(self, job: Job) -> list[Asked]:
        """The answers of the rules in order, up to the first no."""
        answers: list[Asked] = []
        for rule in self.rules:
            answers.append(rule.ask(job, self.name))
            if not answers[-1].answer:
                break
        return answers
