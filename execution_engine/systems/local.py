"""The Local execution system: jobs run on the engine's own host, as its user, as many at a time as there are slots.

The jobs' parent is a keeper (see `local_keeper`), so that jobs survive the actors and the engine.  A job is a session of its own,
identified by the pid and the start time of its script and the machine's boot id.  What holds here:
- Walltime is real time from the start of the script; the time in which a job is suspended counts.
- Memory is the resident memory of all processes of the job together, looked at about four times a second.
- To end a job is: SIGTERM to its processes, after the configured `kill_delay` SIGKILL; it has ended when nothing of it is left.
- What a command leaves running in the background when it ends is ended in the same way.  A process escapes only if it leaves the
  session, clears its environment and loses its parent before anybody has looked at the job.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from execution_engine.errors import ExecutionSystemError, NotSupported, SystemFull
from execution_engine.jobs.exit_record import ExitRecord, find_exit_record, read_start_marker
from execution_engine.jobs.job import Job, Usage
from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems
from execution_engine.systems.execution_systems import Account, Health, Started
from execution_engine.systems.local_ends import explain, final_status, last_words
from execution_engine.systems.local_keeper import processes
from execution_engine.systems.local_keeper.client import KeeperClient
from execution_engine.systems.local_keeper.processes import Identity, Process, ProcessTable
from execution_engine.systems.local_keeper.records import Order, ProcessRecord, Records, read, read_last
from execution_engine.users import nearest

_STOP_TIMEOUT = 2.0
_STOP_PAUSE = 0.005
_SHELL = "/bin/sh"
_FAR_AWAY = 3600.0


class LocalOptions(execution_systems.Options):
    """The keys of a Local system in the configuration."""

    slots: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = Field(
        "auto", description="cores that its jobs may use together; auto: the processors that the engine may use"
    )


@execution_systems.register
class Local(execution_systems.ExecutionSystem):
    """Jobs on the engine's own host."""

    Options = LocalOptions
    host_bound = True
    record_suffices = False
    takes_ahead = True
    may_resume_running = True
    accounts_apart = False
    longest_interval = 5.0

    def __init__(self, context: execution_systems.Context, options: Any) -> None:
        super().__init__(context, options)
        self._keeper = KeeperClient(context.run_dir, context.name)
        self._seen_ended: dict[tuple[str, int], Records] = {}  # by the last look; these are accounted for next

    def slots(self) -> int:
        if self.options.slots == "auto":
            return len(os.sched_getaffinity(0))
        return int(self.options.slots)

    def probe(self) -> Health:
        """Whether jobs could be started; starts nothing."""
        run_dir = self.context.run_dir
        if not os.access(nearest(run_dir)[0], os.R_OK | os.W_OK | os.X_OK):  # the engine makes it
            return Health(False, f"cannot write to {run_dir}")
        if not os.access(_SHELL, os.X_OK):
            return Health(False, f"cannot execute {_SHELL}")
        if processes.read(os.getpid()) is None:
            return Health(False, "cannot read /proc")
        trouble = self._keeper.trouble()
        return Health(not trouble, trouble or _slots(self.slots()))

    # --- starting

    def run(self, job: Job) -> Started:
        ((_, outcome),) = self.run_many([job])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run_many(self, jobs: Sequence[Job]) -> Iterable[tuple[Job, Started | Exception]]:
        """Hands all over in one message to the keeper, which starts each as soon as its cores fit into the slots, and answers
        SystemFull for those that do not in a moment.  A job that was started before is not started again."""
        known: list[tuple[Job, Started | Exception]] = []
        fresh: list[Job] = []
        for job in jobs:
            try:
                self._check(job)
                if (native := self.find(job)) is None:
                    fresh.append(job)
                else:
                    known.append((job, Started(native, Status.RUNNING)))
            except ExecutionSystemError as error:
                known.append((job, error))
        return chain(known, zip(fresh, self._start(fresh), strict=True) if fresh else ())

    def _start(self, jobs: list[Job]) -> Iterator[Started | Exception]:
        """The jobs are with the keeper when this returns; their outcomes come later."""
        terms = {"environment": self.context.environment, "slots": self.slots(), "until": _lease_end(jobs)}
        try:
            outcomes = self._keeper.stream("run", [self._order(job) for job in jobs], **terms)
        except (ExecutionSystemError, OSError) as error:
            return iter([error] * len(jobs))
        return self._told(outcomes, len(jobs))

    def _told(self, outcomes: Iterator[dict[str, Any]], jobs: int) -> Iterator[Started | Exception]:
        told = 0
        try:
            for outcome in outcomes:
                told += 1
                yield self._outcome(outcome)
        except (ExecutionSystemError, OSError) as error:
            yield from [error] * (jobs - told)

    def _outcome(self, outcome: dict[str, Any]) -> Started | Exception:
        if "id" in outcome:
            return Started(outcome["id"], Status.RUNNING)
        message = f"{self.context.name}: {outcome['message']}"
        return SystemFull(message) if outcome["full"] else ExecutionSystemError(message, transient=outcome["transient"])

    def keeps_all(self, jobs: Sequence[Job]) -> bool:
        if not jobs:
            return True
        held = self._ask("holds", [(_directory(job), job.attempt) for job in jobs])
        return not any(self._runs(job) for job, is_held in zip(jobs, held, strict=True) if not is_held)

    def _runs(self, job: Job) -> bool:
        records = read(_directory(job), job.attempt)
        record = _identify(job, records)
        return records.usage is None and record is not None and processes.is_alive(record.identity)

    def _check(self, job: Job) -> None:
        if job.resources.cores > self.slots():
            raise ExecutionSystemError(
                f"{job.label} needs {job.resources.cores} cores, {self.context.name} has {_slots(self.slots())}"
            )

    def find(self, job: Job) -> str | None:
        """Known is a job that runs, that has ended, or whose command has been started at least."""
        directory = _directory(job)
        record, usage = read(directory, job.attempt)
        if usage is not None:
            return str(usage.identity)
        if record is not None and record.boot == processes.boot_id() and processes.is_alive(record.identity):
            return str(record.identity)
        marker = read_start_marker(Path(directory))
        if marker is None or marker.attempt != job.attempt:
            return None
        script, leader = processes.session_leader(marker.pid, os.fsencode(_SHELL)) or ("", None)
        return str(leader if leader and script == str(execution_systems.script(job)) else Identity(marker.pid, 0))

    # --- asking

    def get_status(self, job: Job) -> Status:
        return self.get_statuses([job])[job.text_id]

    def get_statuses(self, jobs: Sequence[Job]) -> dict[str, Status]:
        """Found in the jobs' directories and in /proc; the keeper is asked only about those that seem to be nobody's."""
        self._keeper.check()
        statuses = {}
        unclear: list[tuple[Job, Identity]] = []
        self._seen_ended.clear()
        for job in jobs:
            status, asked = self._observe(job)
            statuses[job.text_id] = status
            if asked is not None:
                unclear.append((job, asked))
        self._hand_to_keeper("watch", [each for each in unclear if not each[0].kill_sent], statuses)
        self._hand_to_keeper("kill", [each for each in unclear if each[0].kill_sent], statuses)  # the one before died over it
        return statuses

    def _hand_to_keeper(self, op: str, jobs: list[tuple[Job, Identity]], statuses: dict[str, Status]) -> None:
        held = self._ask(op, [(self._order(job), leader) for job, leader in jobs]) if jobs else []
        for (job, _), is_held in zip(jobs, held, strict=True):
            statuses[job.text_id] = self._decide(job, statuses[job.text_id], is_held)

    def _observe(self, job: Job) -> tuple[Status, Identity | None]:
        """The job's status as far as it can be seen, and who it is if the keeper must be asked about it."""
        records = read(_directory(job), job.attempt)
        if records.usage is not None:
            self._seen_ended[job.text_id, job.attempt] = records
            return final_status(job, records.usage), None
        record = _identify(job, records)
        if record is None or record.boot not in ("", processes.boot_id()):
            return Status.UNKNOWN, None
        try:
            process = processes.find(record.identity)
        except PermissionError:
            return job.status, None  # something is there, and who may not look cannot say that it is not the job
        if process is None or not process.alive:
            return Status.UNKNOWN, record.identity
        keeper = Identity.parse(record.keeper)
        watched = keeper is not None and processes.is_alive(keeper)
        return Status.SUSPENDED if process.stopped else Status.RUNNING, None if watched else record.identity

    def _decide(self, job: Job, seen: Status, held: bool) -> Status:
        """A job that is gone but still held by the keeper is about to be accounted for; otherwise it may have been just now."""
        if seen is not Status.UNKNOWN:
            return seen
        usage = read_last(_directory(job), job.attempt).usage
        if usage is not None:
            return final_status(job, usage)
        return Status.RUNNING if held else Status.UNKNOWN

    def account(self, job: Job, record: ExitRecord | None) -> Account | None:
        records = self._seen_ended.pop((job.text_id, job.attempt), None) or read_last(_directory(job), job.attempt)
        usage, record = records.usage, record or find_exit_record(Path(_directory(job)), job.attempt)
        if record is None and (usage is None or (usage.reason is None and not usage.signalled)):
            return self._without_record(job, records)
        if usage is None:
            return None
        adopted = usage.code is None  # its end was seen late then
        wall = record.wall if adopted and record is not None and record.wall is not None else usage.wall
        used = Usage(wall=wall, cpu=usage.cpu, memory=usage.memory, host=socket.gethostname())
        return Account(usage.reason, usage.code, used, explain(job, usage))

    def _without_record(self, job: Job, records: Records) -> Account | None:
        """On this host nothing is late: what is not there now was never written."""
        process = _identify(job, records)
        if process is None:
            return None
        if process.boot not in ("", processes.boot_id()):
            return Account("node lost", message="the machine was started anew while it ran")
        return Account("no exit record", message=last_words(job))

    # --- ending, stopping

    def kill(self, job: Job) -> None:
        records = read(_directory(job), job.attempt)
        record = _identify(job, records)
        if records.usage is None and record is not None and record.boot in ("", processes.boot_id()):
            self._ask("kill", [(self._order(job), record.identity)])

    def hold(self, job: Job) -> None:
        raise NotSupported(f"{job.label} runs already: use suspend")

    def release(self, job: Job) -> None:
        raise NotSupported(f"{job.label} runs already: use resume if it is suspended")

    def suspend(self, job: Job) -> None:
        self._signal_until(job, signal.SIGSTOP, lambda process: process.stopped)

    def resume(self, job: Job) -> None:
        self._signal_until(job, signal.SIGCONT, lambda process: not process.stopped)

    def _signal_until(self, job: Job, number: signal.Signals, reached: Callable[[Process], bool]) -> None:
        """Signals all processes of the job, and those that they start meanwhile, until each is in the wanted state.

        Its script comes last: by that one the job's status is told, so an actor that dies halfway has not changed it, and the
        request is carried out again.
        """
        record = _identify(job, read(_directory(job), job.attempt))
        leader = processes.find(record.identity) if record is not None else None
        if leader is None or not leader.alive:
            raise ExecutionSystemError(f"{job.label} has no process any more")
        deadline = time.monotonic() + _STOP_TIMEOUT
        while True:
            members = ProcessTable.now().members(leader.identity, leader.parent, (_directory(job), job.attempt))
            missing = [process for process in members if not reached(process)]
            if not missing:
                return
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in missing)
                raise ExecutionSystemError(f"process {pids} of {job.label} does not obey {number.name} yet", transient=True)
            others = [process for process in missing if process.identity != leader.identity]
            try:
                for process in others or missing:
                    processes.send(process, number)
                for child in _in_the_way(members, missing):
                    processes.send(child, signal.SIGCONT)
            except PermissionError as error:
                raise ExecutionSystemError(f"{job.label} has a process of another user: {error}") from error
            time.sleep(_STOP_PAUSE)

    # --- common

    def _ask(self, op: str, jobs: list[Any]) -> list[Any]:
        try:
            return self._keeper.ask(op, jobs)
        except OSError as error:
            raise ExecutionSystemError(f"the keeper of {self.context.name} does not answer: {error}", transient=True) from error

    def _order(self, job: Job) -> Order:
        wanted = job.resources
        return Order(_directory(job), job.attempt, wanted.walltime, wanted.memory, self.context.kill_delay, wanted.cores)


def _lease_end(jobs: Iterable[Job]) -> float:
    """When the first of these may be another actor's, in seconds since the machine's boot; without a lease, far away."""
    ends = [job.lease.until for job in jobs if job.lease.until is not None]
    seconds = (min(ends) - datetime.now(UTC)).total_seconds() if ends else _FAR_AWAY
    return processes.uptime() + seconds


def _directory(job: Job) -> str:
    if job.dir is None:
        raise ExecutionSystemError(f"{job.label} has no directory yet")
    return job.dir


def _in_the_way(members: Sequence[Process], missing: Sequence[Process]) -> list[Process]:
    """Stopped children for which their parents wait in the kernel (vfork), deaf to signals, until they have become programs."""
    waiting = {process.pid for process in missing if process.state == "D"}
    return [process for process in members if process.stopped and process.parent in waiting]


def _identify(job: Job, records: Records) -> ProcessRecord | None:
    """Who the job is.  The stored native id is believed more than a file that the job can write.

    It is all there is when the job removed that file; of the machine's boot nothing is known then.
    """
    record = records.process
    native = Identity.parse(job.execution.job_no or "")
    if native is None or (record is not None and record.identity == native):
        return record
    return ProcessRecord(native.pid, native.start, boot="", attempt=job.attempt, keeper="")


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"
