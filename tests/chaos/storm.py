"""A storm: engines at work, while their processes are killed, stopped and ended at random, and their database is taken away.

Everything that is left to chance comes from the seed.  (What the processes do with it is not: two storms with one seed do the
same to engines that are never twice in the same state.)
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from execution_engine.clock import SystemClock
from execution_engine.errors import StoreUnavailable
from execution_engine.jobs.status import FINAL, RETRY
from execution_engine.master.pid_file import holder
from execution_engine.store import open_store
from tests.chaos import databases, family, jobs
from tests.support.engines import EXECD, Engine
from tests.support.servers import WebServer

VICTIMS = {
    "execd: master": 1,
    "execd: monitor": 2,
    "execd: fork server": 2,
    "execd: building": 4,
    "execd: submit": 5,
    "execd: status": 5,
    "execd: request": 4,
    "execd: notification": 4,
    "execd: local": 3,
}
"""How often each kind of process is hit, among those that are there."""
BLOWS = {"SIGKILL": 80, "SIGSTOP": 10, "SIGTERM": 4, "database": 6}
AT_ONCE = 250
"""Jobs that have not ended, at most."""
_LONGEST_STOP = 6.0
_LONGEST_OUTAGE = 3.0
_PATIENCE = 90.0
"""Seconds without any progress before the jobs that have not ended count as lost."""


@dataclass(slots=True)
class Account:
    """What was done to the engines."""

    blows: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    starts_cut_short: int = 0

    @property
    def kills(self) -> int:
        return sum(number for blow, number in self.blows.items() if blow.startswith("SIGKILL"))


class Storm:
    """`rounds` blows while `number` jobs go through the engines."""

    def __init__(self, directory: Path, seed: int, number: int, rounds: int, database: str, engines: int) -> None:
        self.directory = directory
        self.seed, self.number, self.rounds = seed, number, rounds
        self.web = WebServer()
        self.account = Account()
        self.given: dict[Any, jobs.Given] = {}
        self.problems: list[str] = []
        self._noted: set[Any] = set()
        self._chance = random.Random(seed)
        self._engines = engines
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._starting: dict[int, tuple[subprocess.Popen[bytes], int]] = {}
        self.runs = directory / "runs"
        self.runs.mkdir()
        self.database = databases.KINDS[database](directory)
        self.store = open_store(databases.config(self.database), SystemClock())

    def prepare(self, web: WebServer) -> None:
        """Makes the engines and starts them."""
        self.web = web
        self.engines = [Engine(self.directory / f"engine{number}", **self._settings()) for number in range(self._engines)]
        for engine in self.engines:
            engine.start()
        self.store.boot()

    def _settings(self) -> dict[str, Any]:
        pace = self.database.pace
        return {
            "database": self.database.settings,
            "jobs_dir": str(self.directory / "jobs"),
            "execution_systems": {"here": {"class": "Local", "slots": 6}},
            "engine": {
                "lease": 3 * pace,
                "actor_deadline": 4 * pace,
                "crashes": 1000,  # that a process dies here is never the job's fault
                "kill_delay": "1s",
                "retry_delay": {"min": "0.1s", "max": "1s"},
            },
            "notification": {
                "targets": {"web": {"url": f"json://127.0.0.1:{self.web.port}/"}},
                "default": ["web"],
                "retry_delay": {"min": "0.2s", "max": "1s"},
            },
            "log": {"max_size": "100M"},
        }

    # --- the storm

    def rage(self) -> None:
        """Hands all jobs in and deals all blows, the blows spread evenly over the jobs."""
        ended, counted, moved = 0, 0.0, time.monotonic()
        while self._dealt() < self.rounds or len(self.given) < self.number:
            self._turn()
            if time.monotonic() - counted > 0.5 * self.database.pace and not self.database.away:
                before, ended, counted = ended, self._ended(), time.monotonic()
                moved = counted if ended > before else moved
            if time.monotonic() - moved > _PATIENCE * self.database.pace:
                self.problems.append(f"no job ended for {_PATIENCE * self.database.pace:g} s in the middle of the storm")
                return
            if len(self.given) - ended < AT_ONCE and not self.database.away:
                self._hand_in()
            if self._dealt() * self.number <= self.rounds * (ended + min(AT_ONCE / 2, self.number / 5)):
                self._blow()
            time.sleep(self._chance.uniform(0, 0.15 * self.database.pace))

    def calm(self) -> None:
        """No more blows: waits until nothing moves any more, because all is done or because it is stuck."""
        self.database.give_back()
        last, moved = (0, 0), time.monotonic()
        while time.monotonic() - moved < _PATIENCE * self.database.pace:
            self._turn()
            state = (self._ended(), len(self.web.headers), len(self._noted))
            if state != last:
                last, moved = state, time.monotonic()
            if state[0] == len(self.given) and not self._later and time.monotonic() - moved > 2.0 and self._all_told():
                return
            time.sleep(0.2)

    def _turn(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        self._start_the_dead()
        family.reap([process.pid for process, _ in self._starting.values()])

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), what))

    def _ended(self) -> int:
        counts = self._patiently(self.store.count)
        return sum(counts.get(status, 0) for status in FINAL)

    def _all_told(self) -> bool:
        told = {(headers["X-Execd-Job"], headers["X-Execd-Status"]) for headers in self.web.headers}
        return self._all_noted() and all(
            any((str(job_id), end) in told for end in given.sort.ends) for job_id, given in self.given.items()
        )

    def _all_noted(self) -> bool:
        """Whether the database says of each job that its owner was told: an actor may have died between the two."""
        for job_id in self.given.keys() - self._noted:
            if self._patiently(lambda job_id=job_id: self.store.get(job_id))["times"].get("notified") is None:
                return False
            self._noted.add(job_id)
        return True

    # --- jobs

    def _hand_in(self) -> None:
        number = min(self._chance.randint(1, 30), self.number - len(self.given))
        if not number:
            return
        new = [jobs.make(len(self.given) + each, self._chance, self.runs) for each in range(number)]
        documents = [given.document for given in new]
        for given, job_id in zip(new, self._patiently(lambda: self.store.insert(documents)), strict=True):
            self.given[job_id] = given
            after = 0.0
            for what, longest in given.requests:
                after += self._chance.uniform(0, longest)
                self._in(after, lambda job_id=job_id, what=what: self._request(job_id, what))

    def _request(self, job_id: Any, what: str) -> None:
        """Order matters: a release that came before its hold would leave the job held for ever."""
        if self.database.away:
            self.database.give_back()
        asked = self._patiently(lambda: self.store.request([job_id], what))
        if what == RETRY and not asked and self._patiently(lambda: self.store.get(job_id)).get("attempt", 1) == 1:
            self._in(0.3 * self.database.pace, lambda: self._request(job_id, what))  # it has not ended yet

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """A database that comes back after an outage is slow at first."""
        end = time.monotonic() + 60
        while True:
            try:
                return ask()
            except StoreUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    # --- blows

    def _dealt(self) -> int:
        return sum(self.account.blows.values())

    def _blow(self) -> None:
        (blow,) = self._chance.choices(list(BLOWS), list(BLOWS.values()))
        if blow == "database":
            self._take_database_away()
        else:
            self._hit(signal.Signals[blow])

    def _take_database_away(self) -> None:
        if self._starting or self.database.away:
            return  # an engine that starts takes a file that is gone for one that was never there
        how = self.database.take_away(self._chance)
        self.account.blows[f"database {how}"] += 1
        _soon(self._chance.uniform(0.05, _LONGEST_OUTAGE), self.database.give_back)

    def _hit(self, blow: signal.Signals) -> None:
        """Signals a process: first the kind is chosen, so that those with many processes are not hit more often."""
        there: dict[str, list[psutil.Process]] = {}
        for process, title in family.workers():
            kind = next((kind for kind in VICTIMS if title.startswith(kind)), None)
            if kind is not None:
                there.setdefault(kind, []).append(process)
        if not there:
            return
        (kind,) = self._chance.choices(list(there), [VICTIMS[kind] for kind in there])
        victim = self._chance.choice(there[kind])
        try:
            victim.send_signal(blow)
        except psutil.NoSuchProcess:
            return
        self.account.blows[f"{blow.name} {kind.removeprefix('execd: ')}"] += 1
        if blow is signal.SIGSTOP:
            _soon(self._chance.uniform(0.1, _LONGEST_STOP * self.database.pace), lambda: _go_on(victim))

    # --- engines that died

    def _start_the_dead(self) -> None:
        for number, engine in enumerate(self.engines):
            if number in self._starting:
                self._look_at_start(number)
            elif holder(engine.directory / "run") is None and not self.database.away:
                self.account.starts += 1
                with (engine.directory / "starts").open("ab") as said:
                    command = [*EXECD, "-c", str(engine.file), "start"]
                    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
                self._starting[number] = (process, self._dealt())

    def _look_at_start(self, number: int) -> None:
        process, dealt = self._starting[number]
        code = process.poll()
        if code is None:
            return
        del self._starting[number]
        if code == 0:
            return
        self.account.starts_cut_short += 1
        if dealt == self._dealt():
            self.problems.append(
                f"`execd start` failed although nothing was done to it; see {self.engines[number].directory}/starts"
            )

    def end(self) -> None:
        """Ends whatever there is."""
        family.end_all()
        self.store.close()
        self.database.end()


def _soon(seconds: float, what: Callable[[], None]) -> None:
    """In a thread: whoever waits for the database may wait for this very thing, because a stopped process keeps it locked."""
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


def _go_on(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        return
