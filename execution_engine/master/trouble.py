"""What the master tells of a monitor that dies again and again: nobody else is left who could."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.engine import state


class MonitorTrouble:
    """An outage, from the death of a monitor until another one works."""

    def __init__(self, run_dir: Path, clock: Clock) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._since = ""
        self._count = 0

    def died(self, how: str) -> None:
        """Tells of a death, or of what keeps the next one from working."""
        self._since = self._since or self._clock.now().isoformat()
        self._count += 1
        told = {"what": "monitor", "since": self._since, "error": how, "count": self._count}
        with self._writing():
            state.write(self._run_dir, state.MONITOR, told)

    def over(self) -> None:
        """A monitor works."""
        self._since, self._count = "", 0
        with self._writing():
            (self._run_dir / state.MONITOR).unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Into the run directory, whose disk may be full, or away."""
        try:
            yield
        except OSError as error:
            events.emit("state.unwritable", directory=str(self._run_dir), error=str(error))
