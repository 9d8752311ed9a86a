"""What the monitor knows of each execution system: its lane, whether it has room, when to ask about its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from execution_engine.clock import Clock
from execution_engine.config import PollInterval
from execution_engine.engine.rests import Rests
from execution_engine.engine.schedule import Pace

_RECENT = 1.0
_FULL = 5.0
"""Seconds after which a system that was full is looked at again, whatever was heard of it."""


@dataclass(slots=True)
class _System:
    lane: str
    slots: int | None
    pace: Pace
    active: int | None = None
    """jobs that it has; None: not asked yet"""
    full: bool = False
    full_at: float = float("-inf")
    room_at: float = float("-inf")
    """when a job ended last, or one came that may fit"""
    fresh: bool = False
    """jobs were submitted since the last answer, which may not have counted them"""
    slow: dict[str, str] = field(default_factory=dict)
    """what took it long of late, by who asked"""
    woken_at: float = float("-inf")
    """when it said last that it has news"""


class SystemsWatch:
    """All systems of the configuration, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._systems: dict[str, _System] = {}
        self.rests = Rests(clock)

    def set_systems(self, systems: Iterable[dict[str, Any]], interval: PollInterval) -> None:
        """The systems that there are from now on (`name`, `lane`, `slots`); those that stay keep what is known of them."""
        self._interval = interval
        known = self._systems
        self._systems = {}
        self.rests.try_again()
        for each in systems:
            old = known.get(each["name"])
            pace = old.pace if old else Pace(self._clock, interval)
            pace.interval = self._interval_of(each)
            active = old.active if old else None
            self._systems[each["name"]] = _System(each["lane"], each["slots"], pace, active, room_at=self._clock.monotonic())

    def _interval_of(self, system: dict[str, Any]) -> PollInterval:
        longest = system.get("longest_interval") or self._interval.max
        return PollInterval(min=self._interval.min, max=max(self._interval.min, min(longest, self._interval.max)))

    def lanes(self) -> Iterator[tuple[str, str]]:
        """Name and lane of each system."""
        for name, system in self._systems.items():
            yield name, system.lane

    def system_of(self, lane: str | None) -> str | None:
        """The system whose lane this is; None where the work belongs to none."""
        return next((name for name, system in self._systems.items() if system.lane == lane), None)

    # --- room for more

    def may_submit(self, name: str) -> bool:
        """Whether to look for jobs that wait for this system: not while all of its slots are taken, or it takes no jobs."""
        system = self._systems[name]
        return not self.rests.waits(name) and (not system.full or self._clock.monotonic() >= system.full_at + _FULL)

    def full(self, name: str, *, full: bool, looked: float) -> None:
        """Whether all slots were taken when the submit actor looked (monotonic); the end of a job since then made room."""
        if (system := self._systems.get(name)) is not None:
            system.full, system.full_at = full and looked >= system.room_at, self._clock.monotonic()

    def room(self, name: str) -> None:
        """A job ended, or one came that may fit."""
        if (system := self._systems.get(name)) is not None:
            system.full, system.room_at = False, self._clock.monotonic()

    def slow(self, name: str, who: str, what: str) -> None:
        """What took the system long when this actor asked last; empty: nothing."""
        if (system := self._systems.get(name)) is not None:
            system.slow[who] = what

    # --- asking

    def due(self) -> list[str]:
        """The systems to be asked now.  Those that seem to have no jobs are looked at rarely: what is known may be wrong."""
        return [name for name, system in self._systems.items() if system.pace.due()]

    def looking(self, name: str) -> None:
        """An actor was sent to ask; do not send another at once."""
        self._systems[name].pace.wait(self._interval.min)

    def asked(self, name: str, *, active: int, changed: int) -> None:
        """An actor has asked: so many jobs are there, so many had news."""
        if (system := self._systems.get(name)) is None:
            return
        system.active = None if system.fresh else active
        if system.fresh:
            self._ask_soon(system)
        elif active:
            system.pace.looked(news=changed > 0)
        else:
            system.pace.wait(self._interval.max)
            system.full = False
        system.fresh = False

    def submitted(self, name: str) -> None:
        """The system has jobs now."""
        if (system := self._systems.get(name)) is not None:
            system.fresh = True
            self._ask_soon(system)

    def woken(self, name: str) -> None:
        """The system itself says that it has news."""
        if (system := self._systems.get(name)) is not None:
            system.full, system.room_at = False, self._clock.monotonic()
            system.woken_at = self._clock.monotonic()
            system.pace.at_once()

    def _ask_soon(self, system: _System) -> None:
        """At once, if news came that may be about jobs whose ids were not stored yet: a short job can be that fast."""
        system.pace.looked(news=True)
        if self._clock.monotonic() - system.woken_at < _RECENT:
            system.pace.at_once()

    def at_once(self, name: str) -> None:
        """The system has news (a request was sent to it): ask now."""
        if (system := self._systems.get(name)) is not None:
            system.pace.at_once()

    def remaining(self) -> float:
        """Seconds until one of them is to be asked."""
        return min((system.pace.remaining() for system in self._systems.values()), default=3600.0)

    def describe(self) -> dict[str, dict[str, Any]]:
        """For `execd status`."""
        return {
            name: {
                "lane": system.lane,
                "slots": system.slots,
                "active": system.active or 0,
                "full": system.full,
                "slow": ", ".join(sorted(filter(None, set(system.slow.values())))),
                "rests": self.rests.describe(name),
            }
            for name, system in self._systems.items()
        }
