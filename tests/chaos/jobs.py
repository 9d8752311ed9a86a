"""The jobs of a storm: of each is known how it may end, and how often its command may have run then."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of job.  `ends`: the statuses in which it may end, each with the exit code that must go with it."""

    share: int
    command: str
    ends: Mapping[str, int | None]
    asked: tuple[tuple[str, float], ...] = ()
    """requests, in order, and the longest time in seconds from the one before"""
    fields: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[tuple[str, int], ...] = ()
    attempts: int = 1
    """how often its command runs: once for each attempt"""


SORTS = {
    "ends at once": Sort(30, "true", {"finished": 0}),
    "sleeps": Sort(28, "sleep 0.0{hundredths}", {"finished": 0}),
    "sleeps longer": Sort(8, "sleep 0.{hundredths}", {"finished": 0}),
    "fails": Sort(10, "exit 3", {"error": 3}),
    "dies": Sort(4, "kill -9 $$", {"error": 137}),
    "writes": Sort(10, "echo result >out", {"finished": 0}, fields={"outputs": ["out"]}, results=(("out", 7),)),
    "is killed": Sort(3, "sleep 600", {"killed": None}, asked=(("kill", 4.0),)),
    "is killed too late": Sort(3, "sleep 0.{hundredths}", {"finished": 0, "killed": None}, asked=(("kill", 1.0),)),
    "is held": Sort(2, "true", {"finished": 0}, asked=(("hold", 0.3), ("release", 3.0))),
    "is tried again": Sort(3, "[ $EXECD_ATTEMPT = 2 ]", {"finished": 0}, asked=(("retry", 1.0),), attempts=2),
    "is suspended": Sort(2, "sleep 0.{hundredths}", {"finished": 0}, asked=(("suspend", 1.0), ("resume", 3.0))),
}


@dataclass(frozen=True, slots=True)
class Given:
    """A job that was handed in, and the file to which its command appends a line each time that it runs."""

    sort: Sort
    name: str
    runs: Path
    document: dict[str, Any]

    @property
    def requests(self) -> tuple[tuple[str, float], ...]:
        return self.sort.asked


def make(number: int, chance: random.Random, runs: Path) -> Given:
    """A job of a random sort.  `runs`: the directory of those files."""
    (name,) = chance.choices(list(SORTS), [sort.share for sort in SORTS.values()])
    sort = SORTS[name]
    file = runs / str(number)
    work = sort.command.format(hundredths=chance.randint(10, 99))
    document = {
        "status": "to be built",
        "name": f"{number} {name}",
        "command": f"echo run >>{file}\n{work}",
        "owner": f"owner-{number % 3}",
        "priority": chance.randint(-2, 2),
        **sort.fields,
    }
    return Given(sort, name, file, document)
