"""Questions that are never answered, fail, or take their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from execution_engine.cli.deadlines import ask_all


def test_answers_come_in_order_and_none_for_what_hangs():
    never = threading.Event()

    def hangs() -> Iterator[int]:
        yield 1
        never.wait(60)

    assert list(ask_all([lambda: [1, 2], hangs, lambda: iter([3]), lambda: []], 0.2)) == [[1, 2], None, [3], []]
    never.set()


def test_all_are_asked_at_once():
    together = threading.Barrier(3, timeout=30)
    assert list(ask_all([lambda: [together.wait() >= 0]] * 3, 30)) == [[True]] * 3


def test_what_a_question_raises_is_raised_in_its_turn():
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("why")

    answers = ask_all([lambda: [1], fails], 30)
    assert next(answers) == [1]
    with pytest.raises(ValueError, match="why"):
        next(answers)
