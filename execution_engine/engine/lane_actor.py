"""An actor that works with one execution system."""

from __future__ import annotations

from execution_engine.engine.actor import Actor, Workplace
from execution_engine.engine.assembly import lane

ASIDE = "its system cannot be asked about it: "
"""How the last crash of a job is told that is set aside: what it ended was no request."""


class LaneActor(Actor):
    """Makes the system, opens it after the fork and closes it at the end."""

    def __init__(self, workplace: Workplace, system: str) -> None:
        super().__init__(workplace)
        plan = self.site.systems[system]
        self.name = plan.name
        self.lane = lane(plan)
        self.system = plan.make()
        self._slow = ""

    def boot(self) -> None:
        self.system.boot()
        self.tell(works="system", at=self.clock.monotonic())

    def note_slow(self) -> None:
        """Has the monitor told what took the system long, when that is another than before."""
        if (slow := self.system.slow()) != self._slow:
            self._slow = slow
            self.note(slow=slow)

    def close(self) -> None:
        self.system.close()
