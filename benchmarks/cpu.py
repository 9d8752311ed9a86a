"""The processor time and the memory of an engine, process by process, taken from /proc while it works.

An actor that ends takes its figures with it, but its fork server inherits the sum; so the processes are looked at often, and what
was not seen of those that ended is told apart.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from pymongo.uri_parser import parse_uri

from benchmarks.engine import Engine

JOBS, DATABASE, CLIENT, UNSEEN = "the jobs' own processes", "database server", "client", "actors unseen"
APART = (JOBS, DATABASE, CLIENT)
_TITLE = "execd: "
_KEEPER = "keeper"
_SERVER = "fork server"
_TICK = os.sysconf("SC_CLK_TCK")
_INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of processor time of a process so far: its own, and that of its children that ended."""

    kind: str
    own: float
    children: float


Key = tuple[int, int]
"""process id and start time"""


class Meter:
    """In a `with` block: what each kind of process of a running engine spent within."""

    def __init__(self, engine: Engine) -> None:
        self._roots = [engine.master().pid, *(keeper.pid for keeper in engine.keepers())]
        self._databases = servers_of(engine.config.database.url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._before = self._now()
        self._last = dict(self._before)
        self._machine = psutil.cpu_times()
        self._began = time.perf_counter()
        self._ours = -time.thread_time()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._alive = self._now()
        self._last |= self._alive
        self._cores = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        self._ours += time.thread_time()
        now = psutil.cpu_times()
        self._unused = now.idle + now.iowait - self._machine.idle - self._machine.iowait

    def spent(self) -> dict[str, float]:
        """Seconds of each kind of process; APART are no costs of the engine."""
        spent: dict[str, float] = defaultdict(float)
        for key, last in self._last.items():
            before = self._before.get(key, Sample("", 0.0, 0.0))
            own, children = last.own - before.own, last.children - before.children
            spent[last.kind] += own
            if last.kind == _KEEPER:
                spent[JOBS] += children
            elif last.kind == _SERVER:
                spent[UNSEEN] += children
            elif last.kind not in ("master", "monitor", DATABASE):
                spent[last.kind] += children  # commands that an actor runs
            if key not in self._alive:
                spent[UNSEEN] -= last.own + last.children  # its fork server has inherited it
        spent[UNSEEN] = max(0.0, spent[UNSEEN])
        return {**spent, CLIENT: self._ours}

    def idle(self) -> float:
        """The share of the machine's cores that nobody used."""
        return min(1.0, max(0.0, self._unused / self._cores))

    def others(self) -> float:
        """The share that programs used that have nothing to do with the engine: what makes a measure worth repeating."""
        return max(0.0, 1.0 - (self._unused + sum(self.spent().values())) / self._cores)

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._last |= self._now()

    def _now(self) -> dict[Key, Sample]:
        samples = dict(self._below(self._roots))
        for server in self._databases:
            if (found := _read(server)) is not None:
                samples[found[0]] = Sample(DATABASE, found[1], 0.0)
        return samples

    def _below(self, pids: list[int]) -> Iterator[tuple[Key, Sample]]:
        """The engine's processes: those with its titles; not the jobs, below the keepers."""
        for pid in pids:
            kind, found = kind_of(pid), _read(pid)
            if kind is None or found is None:
                continue
            key, own, children = found
            yield key, Sample(kind, own, children)
            if kind != _KEEPER:
                yield from self._below(_children(pid))


def memory(engine: Engine) -> dict[str, float]:
    """Bytes (PSS: what is shared is divided among those who share it) of the engine's processes by kind."""
    found: dict[str, float] = defaultdict(float)
    master = engine.master()
    for process in [master, *master.children(recursive=True), *engine.keepers()]:
        kind = kind_of(process.pid)
        if kind is not None:
            found[kind] += process.memory_full_info().pss
    return dict(found)


def kind_of(pid: int) -> str | None:
    """What a process of an engine is: `monitor`, `submit`; None for others."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return None
    if not title.startswith(_TITLE):
        return None
    name = title.removeprefix(_TITLE)
    kind = name if name == _SERVER else name.split()[0]
    return _KEEPER if kind == "local" else kind


def _read(pid: int) -> tuple[Key, float, float] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    user, system, children_user, children_system = (int(ticks) / _TICK for ticks in fields[11:15])
    return (pid, int(fields[19])), user + system, children_user + children_system


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except OSError:
        return []


def servers_of(url: str) -> list[int]:
    """The process ids of the database servers that a URL names, as far as they are on this machine."""
    if not url.startswith("mongodb://"):
        return []
    ports = {port for _host, port in parse_uri(url, validate=False)["nodelist"]}
    listening = (it for it in psutil.net_connections("tcp") if it.status == psutil.CONN_LISTEN)
    return sorted({it.pid for it in listening if it.pid and it.laddr and it.laddr.port in ports})
