"""The commands of Grid Engine: each as the words to run and the meaning of what it prints.  Nothing is run here.

Checked against Son of Grid Engine 8.1.9; the formats are those of qstat(1) and qacct(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from xml.etree import ElementTree

from execution_engine.jobs.status import Status

IS_THERE = ("qconf", "-sm")
"""Asks the qmaster for next to nothing, the managers: ends with 0 if it answers, with or without a scheduler."""

QUEUE = ("qstat", "-xml", "-s", "prs", "-u", "*")
"""Lists all pending, running and suspended jobs of everybody, whatever options the site's or a user's sge_qstat file has."""


def explain(native_id: str) -> tuple[str, ...]:
    """Tells all about one queued job."""
    return ("qstat", "-j", native_id)


def accounting(names: Sequence[str], owner: str) -> tuple[str, ...]:
    """Lists the accounting records of this account's jobs of these names, which are equally long, and perhaps of others with
    names between them; ends with 1 if there is none.

    qacct reads the whole file, which may take it a minute, and knows no list of names, but a pattern: what they have in common,
    and for each other place the characters that they have there.
    """
    return ("qacct", "-o", owner, "-j", "".join(_choice(characters) for characters in _places(names)))


def alike(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in groups that are good for one `accounting` each: a pattern for many that differ everywhere would fit too many
    others."""
    group: list[str] = []
    for name in sorted(names, key=lambda name: (len(name), name)):
        if group and (len(name) != len(group[0]) or (len(group) >= _FEW and _fits([*group, name]) > _MOST_FITTING)):
            yield group
            group = []
        group.append(name)
    if group:
        yield group


_FEW = 20
_MOST_FITTING = 100_000


def _places(names: Sequence[str]) -> list[list[str]]:
    return [sorted(set(characters)) for characters in zip(*names, strict=True)]


def _choice(characters: list[str]) -> str:
    if len(characters) == 1:
        return characters[0]
    return f"[{''.join(each for each in characters if each != '-')}{'-' if '-' in characters else ''}]"


def _fits(names: Sequence[str]) -> int:
    """How many names the pattern for these fits."""
    return prod(len(characters) for characters in _places(names))


# --- states


def status_of(state: str) -> Status | None:
    """What the letters of a state mean; None if they mean nothing that is known here.

    After sge_status(5), section "Job state".  `E` comes with every pending state, `d` with every state of a job on a node, `h`
    with every other: what is held while it runs goes on running.  `t` is a job on its way to a node, where it has not begun: if
    the qmaster dies then, it stays so for minutes.  A job in an error state is as good as gone.
    """
    letters = set(state) - {"d", "R"}
    if not letters <= set("hqwrtsSTE"):
        return None
    for letter, status in _FIRST_MATCH:
        if letter in letters:
            return status
    return None


_FIRST_MATCH = (
    ("E", Status.ERROR),
    ("s", Status.SUSPENDED),
    ("S", Status.SUSPENDED),
    ("T", Status.SUSPENDED),
    ("r", Status.RUNNING),
    ("t", Status.PENDING),
    ("h", Status.HOLD),
    ("q", Status.PENDING),
    ("w", Status.PENDING),
)


# --- the queue


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job as qstat lists it."""

    native_id: str
    name: str
    state: str
    owner: str = ""

    @property
    def status(self) -> Status | None:
        """What the state means; None if it means nothing that is known here."""
        return status_of(self.state)


class Unreadable(ValueError):
    """What a command printed is not whole, or not what it should be."""


def read_queue(text: str) -> list[QueuedJob]:
    """The jobs that `QUEUE` listed.  Raises Unreadable."""
    try:
        root = ElementTree.fromstring(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))
    except ElementTree.ParseError as error:
        raise Unreadable(f"qstat printed no XML: {error}") from None
    if root.tag != "job_info":
        raise Unreadable(f"qstat printed a <{root.tag}> instead of a <job_info>")
    return [_queued_job(entry) for entry in root.iter("job_list")]


_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""A job's name can hold what no XML may hold; whoever gave it must not blind us."""


def _queued_job(entry: ElementTree.Element) -> QueuedJob:
    native_id, state = entry.findtext("JB_job_number"), entry.findtext("state")
    if not native_id or not state:
        raise Unreadable("qstat listed a job without number or state")
    return QueuedJob(native_id.strip(), entry.findtext("JB_name", ""), state.strip(), entry.findtext("JB_owner", ""))


def read_explanation(text: str) -> str:
    """Why a job is in an error state, as `explain` tells it; empty if it does not."""
    reasons = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("error reason")]
    return "; ".join(dict.fromkeys(reasons))


# --- the accounting


@dataclass(frozen=True, slots=True)
class Record:
    """An accounting record, accounting(5): one job that has ended.  Times are in seconds, sizes in bytes."""

    native_id: str
    failed: int
    failure: str
    """what `failed` means, in Grid Engine's words"""
    exit_status: int
    wall: float | None
    cpu: float | None
    memory: int | None
    """the most virtual memory of all processes together"""
    host: str
    name: str = ""
    owner: str = ""
    slots: int = 1
    limits: dict[str, float] = field(default_factory=dict)
    """the resources that were asked for, h_rt and h_cpu in seconds and h_vmem in bytes"""


def read_accounting(text: str) -> list[Record]:
    """The records that `accounting` listed, the oldest first.  Raises Unreadable."""
    blocks = re.split(r"^=+\n", text, flags=re.MULTILINE)
    return [_record(_fields(block.splitlines())) for block in blocks if block.strip()]


def _fields(lines: Iterable[str]) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}


def _record(fields: dict[str, str]) -> Record:
    try:
        failed, _, failure = fields["failed"].partition(":")
        return Record(
            native_id=fields["jobnumber"],
            failed=int(failed),
            failure=failure.strip(),
            exit_status=int(fields["exit_status"].split()[0]),
            wall=_quantity(fields.get("ru_wallclock", "")),
            cpu=_quantity(fields.get("cpu", "")),
            memory=_whole(_quantity(fields.get("maxvmem", ""))),
            host=fields.get("hostname", ""),
            name=fields.get("jobname", ""),
            owner=fields.get("owner", ""),
            slots=int(fields.get("slots") or 1),
            limits=_limits(fields.get("category", "")),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise Unreadable(f"qacct printed a record that is not whole: {error!r}") from None


_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)i?[sB]?")
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LIMIT = re.compile(r"\b(h_rt|h_cpu|h_vmem)=([\w.:]+)")


def _quantity(text: str) -> float | None:
    """`3s`, `5.160MB`, `2G` as qacct writes them, in seconds or bytes."""
    match = _QUANTITY.fullmatch(text.strip())
    return None if match is None else float(match[1]) * 1024 ** _UNITS[match[2].lower()]


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _limits(category: str) -> dict[str, float]:
    """The hard limits in a job's category, which says what was asked for: `-l h_rt=0:30:0,h_vmem=2G -pe smp 2`."""
    limits: dict[str, float] = {}
    for name, text in _LIMIT.findall(category):
        value = _clock_time(text) if ":" in text else _quantity(text)
        if value is not None:
            limits[name] = value
    return limits


def _clock_time(text: str) -> float | None:
    """Seconds of `1:30:00`, of which each part may be left out."""
    parts = text.split(":")
    if len(parts) > 3 or not all(part == "" or part.isdecimal() for part in parts):
        return None
    return float(sum(int(part or 0) * 60**power for power, part in enumerate(reversed(parts))))
