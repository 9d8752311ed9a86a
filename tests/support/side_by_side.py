"""A pytest plug-in: how tests run side by side in several workers (pytest-xdist), and which of them do not.

The tests of a file stay together, because they share engines; so do all that use the one Grid Engine cell, or the one replica
set.  A test marked `alone` waits until no other test runs, and others wait for it.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = ("gridengine", "replica_set")
_DATABASE = re.compile(r"\b(sqlite|mongodb)\b")


def unit_of(nodeid: str) -> str:
    """The name of the tests that run one after the other in one worker with this one."""
    file, _, test = nodeid.partition("::")
    shared = next((name for name in SHARED if name in nodeid), None)
    database = _DATABASE.search(test)
    return shared or f"{file} {database.group() if database else ''}"


class _Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not hasattr(item.config, "workerinput"):
        return (yield)
    shared_by_all_workers = Path(item.config.option.basetemp).parent
    with _room(shared_by_all_workers, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _room(directory: Path, alone: bool) -> Iterator[None]:
    """Whoever wants to be alone closes the door behind itself, or new tests would slip in for ever."""
    with (directory / "door").open("w") as door, (directory / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
