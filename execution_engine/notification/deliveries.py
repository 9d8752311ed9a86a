"""Several deliveries at a time, and a few at each server, so that one that is slow or hangs does not hold up the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from execution_engine.clock import Clock
from execution_engine.notification.notifier import Errand, Notifier, Result

_AT_A_TIME = 32
_AT_ONE_SERVER = 8
_SLOW = 1.0
"""Seconds after which a server that has all of its places taken gets no more errands for now."""
_SLACK = 2.0
"""Seconds beyond the timeout after which nobody waits for a delivery: what it hangs in is no connection (a name server)."""

_Running = tuple[Errand, float]


class Deliveries:
    """Errands under way and waiting.  For one thread."""

    def __init__(self, notifier: Notifier, clock: Clock, timeout: float) -> None:
        self._notifier = notifier
        self._clock = clock
        self._longest = timeout + _SLACK
        self._pool = ThreadPoolExecutor(max_workers=_AT_A_TIME)
        self._waiting: deque[Errand] = deque()
        self._running: dict[Future[Result], _Running] = {}
        self._abandoned: dict[Future[Result], _Running] = {}
        """nobody waits for their result; they keep their places until they end"""

    def add(self, errand: Errand) -> None:
        """Takes an errand; `results` gives its result sooner or later."""
        self._waiting.append(errand)

    def results(self, seconds: float) -> list[tuple[Errand, Result]]:
        """Begins what there are places for, and waits for the first results, for so long at most."""
        self._begin()
        came = [*self._without_a_place()]
        wait(self._running, timeout=0 if came else seconds, return_when=FIRST_COMPLETED)
        came += [(self._running.pop(future)[0], future.result()) for future in list(self._running) if future.done()]
        return [*came, *self._too_late()]

    def withdraw(self, seconds: float) -> list[tuple[Errand, Result]]:
        """Begins nothing more, and waits for what is under way, for so long at most; the results that came."""
        self._waiting.clear()
        done, _ = wait(self._running, timeout=seconds)
        came = [(self._running.pop(future)[0], future.result()) for future in done]
        self._running.clear()
        return came

    def close(self) -> None:
        """Leaves what is under way to its fate."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        self._abandoned = {future: running for future, running in self._abandoned.items() if not future.done()}
        taken = Counter(errand.server for errand, _ in self._in_places())
        later: deque[Errand] = deque()
        while self._waiting and taken.total() < _AT_A_TIME:
            errand = self._waiting.popleft()
            if taken[errand.server] >= _AT_ONE_SERVER:
                later.append(errand)
                continue
            taken[errand.server] += 1
            future = self._pool.submit(self._notifier.carry_out, errand)
            self._running[future] = errand, self._clock.monotonic()
        self._waiting.extendleft(reversed(later))

    def _in_places(self) -> list[_Running]:
        return [*self._running.values(), *self._abandoned.values()]

    def _without_a_place(self) -> Iterator[tuple[Errand, Result]]:
        """The errands for which no place becomes free soon: all at their server, or all there are, are held by slow ones."""
        late = self._clock.monotonic() - _SLOW
        slow = Counter(errand.server for errand, began in self._in_places() if began < late)
        full = slow.total() >= _AT_A_TIME
        waiting, self._waiting = self._waiting, deque()
        for errand in waiting:
            if full or slow[errand.server] >= _AT_ONE_SERVER:
                yield errand, self._notifier.postponed(errand, "its server is slow" if not full else "other servers are slow")
            else:
                self._waiting.append(errand)

    def _too_late(self) -> Iterator[tuple[Errand, Result]]:
        over = self._clock.monotonic() - self._longest
        for future, (errand, began) in list(self._running.items()):
            if began < over:
                self._abandoned[future] = self._running.pop(future)
                self._notifier.rest(errand.server)
                yield errand, self._notifier.failed(errand, f"timed out: nothing came of it within {self._longest:g} s")
