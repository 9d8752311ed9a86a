"""Which route takes a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from execution_engine.job_routing.route import Route
from execution_engine.jobs.job import Asked, Job


@dataclass(frozen=True, slots=True)
class Decision:
    """The route that took a job, or None, and every rule that was asked, in order."""

    route: Route | None
    why: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Asks the routes in their order; the first whose rules all say yes takes the job."""

    routes: Sequence[Route]

    def route(self, job: Job) -> Decision:
        """The decision about a job; never raises."""
        why: list[Asked] = []
        for route in self.routes:
            answers = route.ask(job)
            why += answers
            if all(asked.answer for asked in answers):
                return Decision(route, tuple(why))
        return Decision(None, tuple(why))
