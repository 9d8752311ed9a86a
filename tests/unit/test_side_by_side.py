from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.side_by_side import _room, unit_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tests/a.py::test_b", "tests/a.py::test_c[x]"),
        ("tests/a.py::test_b[mongodb-1]", "tests/a.py::test_c[mongodb-2]"),
        ("tests/a.py::test_b[replica_set-1]", "tests/b.py::test_c[replica_set]"),
        ("tests/integration/test_gridengine.py::test_b", "tests/contract/c.py::test_c[gridengine]"),
    ],
)
def test_tests_that_share_something_run_in_one_worker(one, other):
    assert unit_of(one) == unit_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tests/a.py::test_b", "tests/b.py::test_b"),
        ("tests/a.py::test_b[sqlite-1]", "tests/a.py::test_b[mongodb-1]"),
    ],
)
def test_others_may_run_in_two(one, other):
    assert unit_of(one) != unit_of(other)


def test_a_test_that_measures_runs_alone_and_is_not_kept_waiting_for_ever(tmp_path: Path):
    order: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def enter(name: str, alone: bool) -> None:
        with _room(tmp_path, alone):
            order.append(name)
            entered.set()
            assert leave.wait(10)

    def started(name: str, alone: bool) -> threading.Thread:
        thread = threading.Thread(target=enter, args=(name, alone))
        thread.start()
        return thread

    first = started("first", alone=False)
    assert entered.wait(10)
    measuring = started("measuring", alone=True)
    measuring.join(0.2)
    late = started("late", alone=False)
    late.join(0.2)
    assert order == ["first"]
    leave.set()
    for thread in (first, measuring, late):
        thread.join(10)
    assert order == ["first", "measuring", "late"]
