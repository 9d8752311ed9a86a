"""Questions to what may never answer: a file system that hangs, a plug-in that loops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import click

from execution_engine.cli.parameters import duration

LONGEST = 60.0
"""Seconds that an examination may take, unless somebody says otherwise."""

T = TypeVar("T")

examination_timeout = click.option(
    "--timeout", type=duration, default=LONGEST, help="How long each examination may take; default: 60s."
)


@dataclass(slots=True)
class _Asked(Generic[T]):
    question: Callable[[], Iterable[T]]
    answers: list[T] = field(default_factory=list)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            self.answers.extend(self.question())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            self.error = error
        finally:
            self.done.set()


def ask_all(questions: Sequence[Callable[[], Iterable[T]]], seconds: float) -> Iterator[list[T] | None]:
    """Asks all of them at once, each in a thread of its own; gives the answers in order.

    None stands for one that has not come within so many seconds from the beginning: nobody waits for it any more.  What a
    question raises is raised here, in its turn.
    """
    all_asked = [_Asked(question) for question in questions]
    end = time.monotonic() + seconds
    for asked in all_asked:
        threading.Thread(target=asked.run, daemon=True).start()
    for asked in all_asked:
        if not asked.done.wait(max(0.0, end - time.monotonic())):
            yield None
        elif asked.error is not None:
            raise asked.error
        else:
            yield asked.answers
