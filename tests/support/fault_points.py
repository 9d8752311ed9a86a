"""Fault points in a running engine: which there are, and how a test arms them.  See faults/sitecustomize.py."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable
from pathlib import Path

from execution_engine.store.engine_registry import EngineRegistry
from execution_engine.store.job_store import JobStore
from execution_engine.store.journal import Journal
from execution_engine.systems.execution_systems import ExecutionSystem

HOOK = Path(__file__).parent / "faults"
INTERFACES = (JobStore, EngineRegistry, Journal, ExecutionSystem)


def methods() -> set[str]:
    """All methods of the interfaces, as INTERFACE.METHOD."""
    return {
        f"{interface.__name__}.{name}"
        for interface in INTERFACES
        for name, member in vars(interface).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


class FaultPoints:
    """The points of the engine that is started with `environment`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.environment = {**os.environ, "PYTHONPATH": str(HOOK), "EXECD_TEST_FAULTS": str(directory)}

    def arm(self, points: Iterable[str]) -> None:
        """The next process that comes to each of them (`submit here JobStore.claim before`) dies there."""
        for point in points:
            (self._directory / point).touch()

    def missed(self, points: set[str], within: float = 1.0) -> set[str]:
        """Those of the points that no process has come to; waits for them so many seconds."""
        end = time.monotonic() + within
        while (left := points & self._armed()) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def _armed(self) -> set[str]:
        return {path.name for path in self._directory.iterdir() if not path.name.startswith("hit ")}

    def disarm(self) -> None:
        """No process dies any more."""
        for point in self._armed():
            (self._directory / point).unlink(missing_ok=True)
