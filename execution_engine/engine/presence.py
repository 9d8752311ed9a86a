"""This engine among the others on its database: it shows that it makes progress, and finds out which of them do not.

A beat is a step of the monitor's own loop, so a loop that hangs does not beat.  Another engine is dead when its counter stood
still, by this process' monotonic clock and under its eyes, for longer than that engine's lease.  What a dead engine held is freed
by `Releases`, as everything else that nobody works on any more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.engine import machine
from execution_engine.engine.releases import Releases
from execution_engine.errors import DaemonError, LeaseLost
from execution_engine.store.engine_registry import EngineRecord, EngineRegistry

_BEATS_IN_LEASE = 6
_LONGEST_LOOK_INTERVAL = 1.0
_MARGIN = 2.5
"""Seconds beyond its lease that an engine may be silent: with the look before and the look after, less than 5."""


MONITOR_TITLE = "execd: monitor"


def works_on(record: EngineRecord, run_dir: Path) -> bool:
    """Whether this engine works on this run directory: its monitor is there, and this process can see it."""
    here = record.run_dir == str(run_dir) and record.kernel == machine.kernel()
    return here and machine.runs(record.pid, MONITOR_TITLE)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """When the counter of another engine was seen to change last; monotonic."""

    beats: int
    at: float
    alive: bool
    """it changed under our eyes"""


class Presence:
    """Its record in the registry, and its watch over the records of others."""

    def __init__(self, registry: EngineRegistry, engine: str, run_dir: Path, releases: Releases, clock: Clock) -> None:
        self._registry = registry
        self._releases = releases
        self._clock = clock
        now = clock.now()
        self._record = EngineRecord(
            id=engine,
            host=socket.gethostname(),
            kernel=machine.kernel(),
            pid=os.getpid(),
            run_dir=str(run_dir),
            started=now,
            lease=0.0,
            lanes=(),
            beats=0,
            beat_at=now,
        )
        self._signed_in = False
        self.may_work = False
        """no other machine that is called the same seems to be at work; known after the first look"""
        self._seen: dict[str, _Sighting] = {}
        self._next_beat = self._next_look = self._last_look = clock.monotonic()

    def serve(self, lanes: Iterable[str], lease: float) -> None:
        """From now on these are its lanes, and so long (seconds) it may be silent; told with the next beat, at once."""
        self._record = replace(self._record, lanes=tuple(lanes), lease=lease)
        self._next_beat = self._clock.monotonic()

    def remaining(self) -> float:
        """Seconds until the next turn has something to do."""
        return max(0.0, min(self._next_beat, self._next_look) - self._clock.monotonic())

    def turn(self, *, now: bool = False) -> None:
        """Beats and looks at the others, when it is time; with `now`, it beats whatever the time.

        Raises LeaseLost when this engine was declared dead, DaemonError when another one has a better right to its lanes, and
        StoreError.
        """
        moment = self._clock.monotonic()
        if now or moment >= self._next_beat:
            self._beat()
            self._next_beat = moment + self._record.lease / _BEATS_IN_LEASE
        if moment >= self._next_look:
            self._look(moment)
            self._next_look = moment + min(_LONGEST_LOOK_INTERVAL, self._record.lease / _BEATS_IN_LEASE)

    def lanes_of_all(self) -> set[str]:
        """The lanes that some engine serves.  Raises StoreError."""
        return {lane for record in [self._record, *self._others()] for lane in record.lanes}

    def predecessors(self) -> list[str]:
        """The engines that worked on this run directory before, and are gone.

        Raises DaemonError when one of them works on it still (somebody took its pid file away), and StoreError.
        """
        run_dir = self._record.run_dir
        before = [each for each in self._others() if each.run_dir == run_dir and each.kernel == self._record.kernel]
        for other in before:
            if works_on(other, Path(run_dir)):
                raise DaemonError(
                    f"engine {other.id} (its monitor is pid {other.pid}) works on {run_dir} already, though somebody took "
                    "away its pid file; `execd stop` ends it"
                )
        return [other.id for other in before]

    def _beat(self) -> None:
        record = replace(self._record, beats=self._record.beats + 1, beat_at=self._clock.now())
        if not self._signed_in:
            self._registry.sign_in(record)
            self._signed_in = True
        elif not self._registry.beat(record):
            raise LeaseLost(
                "this engine stood still for longer than its lease and was declared dead; another one takes its place"
            )
        self._record = record

    def _look(self, now: float) -> None:
        """What happened while nobody looked (an outage of the database, above all) speaks against no engine."""
        if now - self._last_look > self._record.lease / 2:
            self._seen.clear()
        self._last_look = now
        others = self._others()
        self._seen = {record.id: self._sighting(record, now) for record in others}
        self.may_work = all(self._clear_of(record, self._seen[record.id], now) for record in others)
        for record in others:
            silent = now - self._seen[record.id].at
            if silent > record.lease + _MARGIN:
                self._bury(record, silent)

    def _others(self) -> list[EngineRecord]:
        return [record for record in self._registry.all() if record.id != self._record.id]

    def _sighting(self, record: EngineRecord, now: float) -> _Sighting:
        before = self._seen.get(record.id)
        if before is not None and before.beats == record.beats:
            return before
        return _Sighting(record.beats, now, alive=before is not None)

    def _clear_of(self, other: EngineRecord, sighting: _Sighting, now: float) -> bool:
        """Whether this engine may work beside the other one.

        Two machines that cannot be told apart would take each other's processes for their own.  But the record may be of this
        very machine from before it was started anew: it is watched for longer than the time between two beats.  Raises
        DaemonError when it beats.
        """
        shared = [lane for lane in self._record.lanes if "@" in lane and lane in other.lanes]
        first = (other.started, other.id) < (self._record.started, self._record.id)
        if not shared or not first or other.kernel == self._record.kernel:
            return True
        if sighting.alive:
            raise DaemonError(
                f"engine {other.id}, on another machine, serves {', '.join(shared)} too: both are called {other.host} and have "
                "the same /etc/machine-id, or none; give one of them a name of its own"
            )
        patience = 2 * other.lease / _BEATS_IN_LEASE + _MARGIN
        if now == sighting.at:
            events.emit("engine.waiting", other=other.id, host=other.host, seconds=round(patience, 1))
        return now - sighting.at > patience

    def _bury(self, record: EngineRecord, seconds: float) -> None:
        if self._registry.declare_dead(record.id, record.beats):
            events.emit("engine.dead", dead=record.id, host=record.host, seconds=round(seconds, 1))
            self._releases.add_engine(record.id)
