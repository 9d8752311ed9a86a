"""Python loads this file when a process of an engine under test starts, because its directory is on PYTHONPATH.

It puts a fault point before and after each method of the database's and the execution systems' interfaces, in whatever class
implements it.  A process that comes to an armed point dies there, as by `kill -9`.  A file `TITLE INTERFACE.METHOD before` (or
`after`) in the directory that EXECD_TEST_FAULTS names arms a point for processes with the title `execd: TITLE`.  Who dies of it
renames it first, so that each armed point kills one process.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ARMED = Path(os.environ.get("EXECD_TEST_FAULTS", "/nonexistent"))


def reach(point: str) -> None:
    """Dies here if the point is armed for processes like this one."""
    from setproctitle import getproctitle

    title = getproctitle().removeprefix("execd: ")
    try:
        (ARMED / f"{title} {point}").rename(ARMED / f"hit {title} {point}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def guarded(point: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with its two points.  The second one of a generator is after each of its values."""
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def values(*arguments: Any, **named: Any) -> Iterator[Any]:
            reach(f"{point} before")
            for value in method(*arguments, **named):
                reach(f"{point} after")
                yield value

        return values

    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        reach(f"{point} before")
        result = method(*arguments, **named)
        reach(f"{point} after")
        return result

    return call


def guard(interface: type, cls: type) -> None:
    """Puts points around those methods of the interface that the class itself defines."""
    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.isfunction(method) and inspect.isfunction(getattr(interface, name, None)):
            setattr(cls, name, guarded(f"{interface.__name__}.{name}", method))


def guard_all(interface: type) -> None:
    """Guards all classes that implement the interface, and all that will."""
    todo = [interface]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        guard(interface, cls)

    def guard_new(cls: type, **named: Any) -> None:
        super(interface, cls).__init_subclass__(**named)
        guard(interface, cls)

    interface.__init_subclass__ = classmethod(guard_new)  # type: ignore[assignment]


if any(word.startswith("execution_engine.engine") for word in sys.orig_argv):
    from execution_engine.store.engine_registry import EngineRegistry
    from execution_engine.store.job_store import JobStore
    from execution_engine.store.journal import Journal
    from execution_engine.systems.execution_systems import ExecutionSystem

    for each in (JobStore, EngineRegistry, Journal, ExecutionSystem):
        guard_all(each)
