"""Fixtures that give a test of one part a time that stands still, and a real embedded database that lives in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_engine.store.sqlite import SqliteJobStore
from tests.support.clocks import HeldClock


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def store(tmp_path: Path, clock: HeldClock) -> Iterator[SqliteJobStore]:
    """In `execd.db` of the test's directory."""
    with SqliteJobStore(tmp_path / "execd.db", clock) as store:
        store.boot(create=True)
        yield store
