"""Processes as /proc shows them: who they are, which belong to a job, how they are signalled and never mistaken for others.

A process is identified by its pid and its start time; a pid alone may be another process by now.
"""

# ruff: noqa: PTH208 - pathlib would cost the keeper a megabyte

from __future__ import annotations

import errno
import functools
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STAT_SIZE = 4096
_LONGEST = 40


class Identity(NamedTuple):
    """Which process: `start` is its start time in clock ticks since the machine's boot (field 22 of /proc/PID/stat)."""

    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.pid}.{self.start}"

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """The identity that `str` wrote, or None."""
        pid, _, start = text.partition(".")
        short = len(text) <= _LONGEST  # Python refuses numbers of thousands of digits with an error of its own
        return cls(int(pid), int(start)) if short and pid.isdecimal() and start.isdecimal() else None


class Process(NamedTuple):
    """A process at one moment."""

    pid: int
    start: int
    state: str
    parent: int
    group: int
    session: int
    threads: int
    memory: int
    """resident size in bytes; pages that it shares with others count in full"""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start)

    @property
    def alive(self) -> bool:
        """False for a zombie.  A process whose first thread has ended while others go on shows as one, but is alive."""
        return self.state not in "ZX" or self.threads > 1

    @property
    def stopped(self) -> bool:
        return self.state in "Tt"


def read(pid: int) -> Process | None:
    """The process with this pid, zombies included, or None.  Raises PermissionError for one that is hidden (`hidepid`)."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        content = os.read(descriptor, _STAT_SIZE)
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)
    words = content[content.rindex(b")") + 2 :].split()  # the name before it may hold blanks and parentheses
    return Process(
        pid=pid,
        start=int(words[19]),
        state=words[0].decode("ascii"),
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        threads=int(words[17]),
        memory=int(words[21]) * _PAGE,
    )


def _visible(pid: int) -> Process | None:
    """The process, or None, also for one that is hidden: it is another user's."""
    try:
        return read(pid)
    except PermissionError:
        return None


def find(identity: Identity) -> Process | None:
    """This very process, zombies included, or None.  Raises PermissionError as `read` does."""
    process = read(identity.pid)
    return process if process is not None and process.start == identity.start else None


def find_visible(identity: Identity) -> Process | None:
    """This very process, if it is alive; None also where one that is hidden has its pid: that is another user's, and no script of
    ours."""
    process = _visible(identity.pid)
    return process if process is not None and process.identity == identity and process.alive else None


def session_leaders(command: bytes) -> dict[str, Identity]:
    """The processes of this user that lead a session and whose first two words are `command` and another one; by that one."""
    leaders = (session_leader(int(name), command) for name in filter(str.isdecimal, os.listdir("/proc")))
    return dict(leader for leader in leaders if leader is not None)


def session_leader(pid: int, command: bytes) -> tuple[str, Identity] | None:
    """The second word of such a process, and which it is; None if it is no such one."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            first, second, *_ = (*file.read().split(b"\0"), b"")
            owner = os.fstat(file.fileno()).st_uid
        process = read(pid) if first == command and owner == os.geteuid() else None
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if process is None or not process.alive or process.session != process.pid:
        return None
    return os.fsdecode(second), process.identity


def is_alive(identity: Identity) -> bool:
    """Whether this very process is there, and not a zombie.  Of one that is hidden nobody can say that it is gone."""
    try:
        process = find(identity)
    except PermissionError:
        return True
    return process is not None and process.alive


class ProcessTable:
    """All processes of the machine at one moment."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self._processes = {process.pid: process for process in processes}
        self._children: dict[int, list[Process]] = {}
        for process in self._processes.values():
            self._children.setdefault(process.parent, []).append(process)

    @classmethod
    def now(cls) -> ProcessTable:
        """The processes of this moment; costs about 10 µs each.

        Not of one moment, as they are read one after the other: a process that came late and lost its parent early would be
        missed, or be seen as another's.  So this process' own children, whom it inherited perhaps, are read once more at the end.
        """
        found = {pid: process for name in os.listdir("/proc") if name.isdecimal() and (process := _visible(pid := int(name)))}
        mine = orphans(pid for pid, process in found.items() if process.parent == os.getpid())
        found.update((pid, process) for pid in mine or () if (process := _visible(pid)))
        return cls(found.values())

    def members(
        self, leader: Identity, reaper: int, job: tuple[str, int], known: Collection[Identity] = frozenset()
    ) -> list[Process]:
        """The living processes of a job (its directory and its attempt), parents before their children.

        They are those of the session and process group that `leader` leads, those that escaped to another session but carry
        the job's `EXECD_JOB_DIR` and `EXECD_ATTEMPT` and were inherited by `reaper`, those `known` from before, and all
        descendants of these.

        When the leader is gone its pid may lead another session by now: then only those known, those that carry the job's
        directory and children of this process (it inherits what jobs leave) count.
        """
        found: dict[int, Process] = {}
        waiting = [
            process
            for process in self._processes.values()
            if process.identity in known or self._is_root(process, leader, reaper, job)
        ]
        waiting.sort(key=lambda process: process.pid != leader.pid)
        while waiting:
            process = waiting.pop(0)
            if process.pid not in found:
                found[process.pid] = process
                waiting.extend(self._children.get(process.pid, ()))
        return [process for process in found.values() if process.alive]

    def _is_root(self, process: Process, leader: Identity, reaper: int, job: tuple[str, int]) -> bool:
        head = self._processes.get(leader.pid)
        in_session = leader.pid in (process.session, process.group) and (head is None or head.start == leader.start)
        if in_session and (head is not None or process.parent == os.getpid()):
            return True
        return (in_session or process.parent == reaper) and process.start >= leader.start and _carries(process.pid, *job)


def _carries(pid: int, directory: str, attempt: int) -> bool:
    """Whether the process was started with the environment of this attempt of this job."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = set(file.read().split(b"\0"))
            return {b"EXECD_JOB_DIR=" + os.fsencode(directory), b"EXECD_ATTEMPT=%d" % attempt} <= variables
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def send(target: Process, number: signal.Signals) -> bool:
    """Signals this very process; False when it is gone.  Raises PermissionError when it has become another user's."""
    try:
        descriptor = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel before 5.3 has none; the window between look and signal is then some microseconds
        return is_alive(target.identity) and _kill(target.pid, number)
    try:
        if not is_alive(target.identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise _foreign(target.pid) from error
    finally:
        os.close(descriptor)
    return True


def _kill(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise _foreign(pid) from error
    return True


def _foreign(pid: int) -> PermissionError:
    return PermissionError(errno.EPERM, f"process {pid} may not be signalled: it runs as another user")


def shared_memory(processes: Iterable[Process]) -> int:
    """Bytes of resident memory of these together, each page that several share counted once among them.

    Exact but slow (the kernel walks all pages); where it is not allowed, the resident size of that process.
    """
    return sum(_proportional_size(process.pid) or process.memory for process in processes)


def _proportional_size(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), None)
    except OSError:  # gone, not ours, or a kernel before 4.14
        return None


class Births:
    """Starts children and tells who they are, mostly without /proc: that one answers only when a child has become its program.

    A child's start time is the clock's where this shows the same tick before and after.  That it does so on this machine is seen
    with the first child.
    """

    def __init__(self) -> None:
        self._clock_tells: bool | None = None

    def identity(self, spawn: Callable[[], int]) -> Identity:
        """Who the child is whose pid `spawn` returns.  Raises what that raises."""
        before = _ticks()
        pid = spawn()
        in_one_tick = _ticks() == before
        if in_one_tick and self._clock_tells:
            return Identity(pid, before)
        child = read(pid)
        assert child is not None  # not reaped yet, so it is there, dead or alive
        if in_one_tick and self._clock_tells is None:
            self._clock_tells = child.start == before
        return child.identity


def _ticks() -> int:
    """What the kernel would write down as the start time of a process that was made now."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * TICKS // 10**9


def orphans(known: Iterable[int]) -> set[int] | None:
    """The pids of this process' children that are not among the known ones; None where they cannot be listed.

    None is left out: children are added at the end, and only this process takes them away.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0) as file:
            return set(map(int, file.readall().split())).difference(known)
    except OSError:  # a kernel that does not list them, or no descriptor left
        return None


def uptime() -> float:
    """Seconds since the machine's boot, time in suspend included: the clock of `Identity.start`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.cache
def boot_id() -> str:
    """A word that is another after each boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
