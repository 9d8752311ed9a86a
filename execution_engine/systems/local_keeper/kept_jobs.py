"""All jobs of a keeper: started, adopted, reaped, looked at when it is time."""

# ruff: noqa: PTH116, PTH118, PTH121 - pathlib would cost the keeper a megabyte

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.complaints import complain
from execution_engine.systems.local_keeper.kept_job import RETRY, SAMPLE, Ended, KeptJob
from execution_engine.systems.local_keeper.processes import Births, Identity, ProcessTable
from execution_engine.systems.local_keeper.records import (
    SCRIPT_LOG,
    TRANSIENT,
    Order,
    ProcessRecord,
    append,
    latest_process,
    read,
)

_LOAD = 50
"""A look at all processes of the machine that took t seconds is followed by at least 50 t without one."""
_SHELL = "/bin/sh"
_FOREGROUND = "foreground"
"""To the job script: its command gets every signal from here, and none over the script."""
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK


class Refusal(NamedTuple):
    """Why a job was not started; `transient`: the same may work later."""

    message: str
    transient: bool
    full: bool = False
    """nothing but a free slot was missing"""


FULL = Refusal("all slots are taken", transient=True, full=True)


class KeptJobs:
    """The jobs that this process looks after.  `script`: the job script's path in the job's directory; `home`: which system's
    keeper this is, on this machine.

    `on_end` is called after one or several of them have ended.
    """

    def __init__(self, script: str, home: str, on_end: Callable[[], None]) -> None:
        self._script = script
        self._home = home
        self._on_end = on_end
        self._jobs: dict[tuple[str, int], KeptJob] = {}
        self._running: dict[int, KeptJob] = {}
        self._reaped: list[KeptJob] = []
        self._orphaned = False
        """a process of some job, left to this one by its parent, has ended"""
        self._boot = processes.boot_id()
        self._births = Births()
        self._ignored = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
        """Signals that a program started by this process would ignore as well."""
        self._look_at = 0.0
        self._orphans = processes.session_leaders(os.fsencode(_SHELL))
        """Scripts that run already, by path: the keeper before may have died before it could write down the last one."""
        self._strangers = dict(self._left_behind())
        """Jobs of the keeper before that nobody has asked about yet, by directory: they take slots."""
        me = processes.read(os.getpid())
        assert me is not None
        self._me = str(me.identity)

    def __len__(self) -> int:
        return len(self._jobs)

    # --- what actors ask for

    def run(self, order: Order, environment: dict[str, str], slots: int) -> Identity | Refusal | None:
        """Starts a job, unless it runs or has ended already; who it is, or why not; None while it does not fit into the slots."""
        known = self._known(order)
        if known is not None:
            return known
        if order.cores + self._taken(slots) > slots:
            return None
        try:
            leader = self._births.identity(lambda: self._spawn(order.directory, environment))
        except OSError as error:
            return Refusal(f"cannot start {self._script} in {order.directory}: {error.strerror}", error.errno in TRANSIENT)
        job = KeptJob(order, leader, parent=True, reaper=os.getpid())
        self._running[leader.pid] = job
        self._keep(job)
        return job.leader

    def watch(self, order: Order, leader: Identity, table: Callable[[], ProcessTable]) -> KeptJob | None:
        """The job, adopted if it is not known; None if nothing of it is left.  `table` is called only if it must be found."""
        job = self._jobs.get((order.directory, order.attempt))
        if job is not None:
            return job
        process = processes.find_visible(leader)
        reaper = process.parent if process is not None else os.getppid()
        adopted = KeptJob(order, leader, parent=False, reaper=reaper)
        if not adopted.members(table()):
            return None
        self._keep(adopted)
        return adopted

    def kill(self, order: Order, leader: Identity, table: Callable[[], ProcessTable]) -> bool:
        """Begins to end a job; False if nothing of it is left."""
        job = self.watch(order, leader, table)
        if job is None:
            return False
        job.end("killed", table(), processes.uptime())
        return True

    # --- what time brings

    def due(self) -> float:
        """When `attend` must be called, whatever else happens; infinite: only when a child ends."""
        due = min((job.due() for job in self._jobs.values()), default=float("inf"))
        if any(job.sampled for job in self._jobs.values()):
            due = min(due, self._look_at)
        return due

    def reap(self) -> None:
        """Takes note of what has ended, and no more: the next job can be started before `attend` accounts for the last."""
        reaped: list[KeptJob] = []
        while (child := _next_dead_child()) is not None:
            pid, status, usage = child
            job = self._running.pop(pid, None)
            if job is None:
                self._orphaned = True
            else:
                job.reaped(_measured(status, usage), processes.uptime())
                reaped.append(job)
        if reaped:
            alone = processes.orphans(self._running) == set()
            for job in reaped:
                job.vacant = alone
            self._reaped += reaped

    def attend(self) -> bool:
        """Accounts for the jobs that have ended, looks at those whose time has come, and tells if any is over.

        Whether slots have become free that `reap` had not found free.
        """
        self.reap()
        (reaped, self._reaped), (orphaned, self._orphaned) = (self._reaped, []), (self._orphaned, False)
        now = processes.uptime()
        for job in reaped:
            if job.vacant:
                job.conclude(now)
        sample = now >= self._look_at
        chosen = [
            job
            for job in self._jobs.values()
            if not job.over
            and (job.due() <= now or job in reaped or (job.sampled and sample) or (job.ending and (reaped or orphaned)))
        ]
        if chosen:
            self._look(chosen)
        over = [job for job in self._jobs.values() if job.over]
        if reaped or over:
            self._jobs = {key: job for key, job in self._jobs.items() if not job.over}
            self._on_end()
        return any(not job.vacant for job in over)

    # --- how

    def _known(self, order: Order) -> Identity | None:
        """Who the job is, if it was started: by this keeper, by an earlier one (it is adopted then), or if it has ended."""
        job = self._jobs.get((order.directory, order.attempt))
        if job is not None:
            return job.leader
        record, usage = read(order.directory, order.attempt)
        if usage is not None:
            return usage.identity
        leader = record.identity if record is not None and record.boot == self._boot else None
        leader = leader or self._orphan(order.directory)
        return leader if leader is not None and self.watch(order, leader, ProcessTable.now) else None

    def _left_behind(self) -> Iterator[tuple[str, ProcessRecord]]:
        for path, leader in self._orphans.items():
            directory = path.removesuffix(f"/{self._script}")
            record = latest_process(directory)
            if record is not None and record.identity == leader and record.home == self._home:
                yield directory, record

    def holds(self, directory: str, attempt: int) -> bool:
        """Whether this job is one of them."""
        return (directory, attempt) in self._jobs

    def _taken(self, slots: int) -> int:
        """Cores in use.  What a job may have written itself cannot be more than all, nor less than one."""
        if self._strangers:
            directories = {job.order.directory for job in self._jobs.values()}
            self._strangers = {
                directory: record
                for directory, record in self._strangers.items()
                if directory not in directories and processes.is_alive(record.identity)
            }
        kept = sum(job.order.cores for job in self._jobs.values() if not job.vacant)
        return kept + sum(min(max(1, record.cores), slots) for record in self._strangers.values())

    def _orphan(self, directory: str) -> Identity | None:
        """The script that runs in this very directory: one of an earlier attempt is in what was kept as `.execd/attempt-N`."""
        leader = self._orphans.pop(os.path.join(directory, self._script), None)
        try:
            return leader if leader is not None and os.path.samefile(f"/proc/{leader.pid}/cwd", directory) else None
        except OSError:  # it is gone
            return None

    def _spawn(self, directory: str, environment: dict[str, str]) -> int:
        os.chdir(directory)  # posix_spawn cannot; nothing else here depends on it
        try:
            os.stat(self._script)  # sh would say so in a log that nobody reads
            return os.posix_spawn(
                _SHELL,
                [_SHELL, os.path.join(directory, self._script), _FOREGROUND],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, SCRIPT_LOG, _APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=self._ignored,
            )
        finally:
            os.chdir("/")

    def _keep(self, job: KeptJob) -> None:
        self._jobs[job.order.directory, job.order.attempt] = job
        order = job.order
        record = ProcessRecord(*job.leader, self._boot, order.attempt, self._me, self._home, order.cores)
        try:
            append(job.order.directory, record)
        except OSError:
            pass  # it runs, and the start marker and the native id tell the same

    def _look(self, jobs: list[KeptJob]) -> None:
        begun = time.monotonic()
        now = processes.uptime()
        try:
            table = ProcessTable.now()
        except OSError as error:  # no descriptor is left, say
            complain(f"cannot look at the processes now: {error}")
            for job in jobs:
                job.postpone(now)
            self._look_at = now + RETRY
            return
        now = processes.uptime()
        for job in jobs:
            job.look(table, now)
        cost = time.monotonic() - begun
        self._look_at = now + max(SAMPLE, _LOAD * cost)


def _next_dead_child() -> tuple[int, int, resource.struct_rusage] | None:
    try:
        child = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return child if child[0] else None


def _measured(status: int, usage: resource.struct_rusage) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    return Ended(code if code >= 0 else 128 - code, round(usage.ru_utime + usage.ru_stime, 3), usage.ru_maxrss * 1024)
