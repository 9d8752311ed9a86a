"""One job in the keeper: watched against its limits, ended step by step, and its end written down."""

from __future__ import annotations

import signal
import time
from typing import NamedTuple

from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.complaints import complain
from execution_engine.systems.local_keeper.processes import Identity, Process, ProcessTable
from execution_engine.systems.local_keeper.records import TRANSIENT, Order, UsageRecord, append, append_beside

SAMPLE = 0.25
"""Seconds between two looks at a job that must be watched."""
NEWBORN = 0.25
"""Seconds of its life in which a job is not ended yet: a shell that is about to start the command, or a process that it has
forked and that is not yet the command, would lose the signal, and the job would run on until SIGKILL."""
FORCED_DELAY = 2.0
"""Seconds that the job's shell has, after its processes were killed, to write the exit record."""
AGAIN = 0.02
"""Seconds after which a job of which nothing was seen is looked at once more: a process between two programs shows no
environment, by which it could be told."""
RETRY = 1.0
GIVE_UP = 60.0
"""Seconds between attempts to write the usage on a disk that is full, and after which the keeper gives up."""

RUNNING, ASKED, KILLED, ERASED = range(4)
"""How far the end of a job went: nothing yet, SIGTERM, SIGKILL to all but its shell, SIGKILL to all."""


class Ended(NamedTuple):
    """What wait4 said of the job script, with its descendants."""

    code: int | None = None
    cpu: float | None = None
    memory: int | None = None


class KeptJob:
    """A job whose keeper this process is.

    `parent`: this process started it, and will reap it; otherwise it was adopted from a keeper that died.
    All moments are seconds since the machine's boot; a suspended job's walltime goes on.
    """

    def __init__(self, order: Order, leader: Identity, *, parent: bool, reaper: int) -> None:
        self.order = order
        self.leader = leader
        self.parent = parent
        self.over = False
        self.vacant = False
        """nothing of it is left; it may still have to be accounted for"""
        self._reaper = reaper
        self._known: set[Identity] = set()
        self._beyond: set[Identity] = set()
        """processes that run as another user by now, and could not be ended"""
        self._unseen = 0
        """looks in a row at which nothing of it was seen; at the second it is gone"""
        self._alone = False
        """its shell got SIGTERM, because it was alone"""
        self._looked_at = 0.0
        self._started = leader.start / processes.TICKS
        self._stage = RUNNING
        self._stage_ends = 0.0
        self._wanted: str | None = None
        self._reason: str | None = None
        self._peak = 0
        self._ended: Ended | None = None
        self._ended_at = 0.0
        self._written = False
        self._write_at = 0.0

    @property
    def ending(self) -> bool:
        """Whether something was done to end it, or its script has ended and left something behind."""
        return self._stage != RUNNING or self._ended is not None

    @property
    def sampled(self) -> bool:
        """Whether it must be looked at again and again: nothing else tells that it uses too much memory, or that it is gone."""
        return not self.parent or self.ending or bool(self.order.memory)

    def due(self) -> float:
        """When it must be looked at, whatever else happens; a step that did not succeed is due again after a moment."""
        if self._unseen == 1:
            return self._looked_at + AGAIN
        moment = float("inf")
        if self._ended is not None and not self._written:
            moment = self._write_at
        elif self._stage in (ASKED, KILLED):
            moment = self._stage_ends
        elif self._stage == RUNNING and self._wanted:
            moment = self._started + NEWBORN
        elif self._stage == RUNNING and self.order.walltime:
            moment = self._started + self.order.walltime
        return moment if moment > self._looked_at else self._looked_at + SAMPLE

    def members(self, table: ProcessTable) -> list[Process]:
        """Its living processes."""
        members = table.members(self.leader, self._reaper, (self.order.directory, self.order.attempt), self._known)
        self._known = {process.identity for process in members}
        return [process for process in members if process.identity not in self._beyond]

    def reaped(self, ended: Ended, now: float) -> None:
        """Its script has ended."""
        self._ended, self._ended_at = ended, now

    def conclude(self, now: float) -> None:
        """Writes its usage.  For a job of which nothing is left."""
        self._conclude(now, is_gone=True)

    def postpone(self, now: float) -> None:
        """It cannot be looked at now."""
        self._looked_at = now

    def look(self, table: ProcessTable, now: float) -> None:
        """Compares it with its limits, takes the next step of its end if that is due, and writes its usage when it ended."""
        self._looked_at = now
        members = self.members(table)
        if not self.parent and self._ended is None and not self._has_leader(members):
            self._ended, self._ended_at = Ended(), now
        if self._stage != RUNNING:
            self._press(members, now)
        elif self._ended is not None:
            self._ask(members, now)
        elif now >= self._started + NEWBORN:
            reason = self._wanted or self._exceeded(members, now)
            if reason and self._ask(members, now):
                self._reason = reason
        self._unseen = 0 if members else self._unseen + 1
        self._conclude(now, is_gone=self._unseen > 1)

    def end(self, reason: str, table: ProcessTable, now: float) -> None:
        """Begins to end it, unless that has begun: SIGTERM, after `kill_delay` SIGKILL.  Only the first reason counts."""
        self._wanted = self._wanted or reason
        self.look(table, now)

    # --- steps

    def _exceeded(self, members: list[Process], now: float) -> str | None:
        if self.order.walltime and now >= self._started + self.order.walltime:
            return "walltime"
        if self.order.memory and self._memory(members) > self.order.memory:
            return "memory"
        return None

    def _memory(self, members: list[Process]) -> int:
        """Resident bytes of all processes together.

        The quick sum counts shared pages again and again: before it counts as too much, the exact one is taken.
        """
        used = sum(process.memory for process in members)
        if used > self.order.memory:
            used = processes.shared_memory(members)
        self._peak = max(self._peak, used)
        return used

    def _ask(self, members: list[Process], now: float) -> bool:
        """SIGTERM to all but the job's shell, which lives on to write the exit record.  Whether anybody was told.

        A shell that is alone gets it: it has not yet started the command, and will pass it on.
        """
        others = [process for process in members if process.pid != self.leader.pid]
        told = [process for process in others or members if self._send(process, signal.SIGTERM)]
        for process in members:
            if process.stopped:
                self._send(process, signal.SIGCONT)
        if told:
            self._stage, self._stage_ends, self._alone = ASKED, now + self.order.kill_delay, not others
        return bool(told)

    def _press(self, members: list[Process], now: float) -> None:
        """The next step when the time of the last is over.  From KILLED on each look kills what has appeared since."""
        if self._stage in (ASKED, KILLED) and now >= self._stage_ends:
            self._stage, self._stage_ends = self._stage + 1, now + FORCED_DELAY
        others = [process for process in members if process.pid != self.leader.pid]
        if self._stage >= KILLED:
            for process in members if self._stage == ERASED else others:
                self._send(process, signal.SIGKILL)
        elif self._alone and others:  # the shell had begun to start the command
            self._alone = False
            for process in others:
                self._send(process, signal.SIGTERM)

    def _send(self, process: Process, number: signal.Signals) -> bool:
        """Whether it is there to be told.  What may not be told at the very end is left to its user, and counts no longer."""
        try:
            return processes.send(process, number)
        except PermissionError as error:
            if self._stage == ERASED:
                self._beyond.add(process.identity)
                complain(f"the job in {self.order.directory} leaves a process behind: {error}")
            return True

    def _conclude(self, now: float, *, is_gone: bool) -> None:
        """Writes the usage: at once after an end of its own, else when nothing is left; it is over when both are true."""
        if self._ended is None:
            return
        if not self._written and now >= self._write_at and (is_gone or not self._reason):
            self._write(self._ended, now)
        self.over = self._written and is_gone

    def _write(self, ended: Ended, now: float) -> None:
        wall = max(0.0, self._ended_at - self._started)
        ended_at = time.time() - (now - self._ended_at)
        usage = UsageRecord(
            attempt=self.order.attempt,
            pid=self.leader.pid,
            start=self.leader.start,
            code=ended.code,
            reason=self._reason,
            cpu=ended.cpu,
            memory=max(ended.memory or 0, self._peak) or None,
            wall=round(wall, 3),
            started=round(ended_at - wall, 3),
            ended=round(ended_at, 3),
        )
        try:
            try:
                append(self.order.directory, usage)
            except OSError as error:
                if error.errno in TRANSIENT:
                    raise
                append_beside(self.order.directory, usage)
        except OSError as error:
            self._write_at = now + RETRY
            self._written = error.errno not in TRANSIENT or now > self._ended_at + GIVE_UP
            if self._written:
                complain(f"the usage of process {self.leader} is lost: {error}")
        else:
            self._written = True

    def _has_leader(self, members: list[Process]) -> bool:
        return any(process.identity == self.leader for process in members)
