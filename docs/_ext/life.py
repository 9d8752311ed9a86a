"""The diagram of a job's life, as SVG.

Where a status stands is drawn by hand here; which arrows there are is held to the table of transitions by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from execution_engine.jobs.status import FINAL, ON_SYSTEM, RETRIES, Status

_S = Status
BOX = _WIDTH, _HEIGHT = 130, 36

PLACES: dict[Status, tuple[int, int]] = {
    _S.INIT: (15, 30),
    _S.TO_BE_BUILT: (195, 30),
    _S.BUILDING: (375, 30),
    _S.TO_BE_SUBMITTED: (555, 30),
    _S.SUBMITTING: (735, 30),
    _S.HOLD: (240, 175),
    _S.SUBMITTED: (400, 150),
    _S.PENDING: (560, 150),
    _S.RUNNING: (720, 150),
    _S.SUSPENDED: (480, 205),
    _S.UNKNOWN: (640, 205),
    _S.KILLED: (195, 330),
    _S.ERROR: (375, 330),
    _S.FINISHED: (555, 330),
}
"""Left and upper edge of each status' box."""

_SYSTEM_BOX = (225, 112, 640, 145)


@dataclass(frozen=True)
class Arrow:
    """From any of some statuses to any of others, drawn as one line through these points; `both`: and back."""

    sources: frozenset[Status]
    targets: frozenset[Status]
    points: tuple[tuple[int, int], ...]
    both: bool = False


def _arrow(
    sources: frozenset[Status] | Status, targets: frozenset[Status] | Status, *points: tuple[int, int], both: bool = False
) -> Arrow:
    def group(given: frozenset[Status] | Status) -> frozenset[Status]:
        return frozenset({given}) if isinstance(given, Status) else given

    return Arrow(group(sources), group(targets), points, both)


_EARLY_END = frozenset({_S.ERROR, _S.KILLED})

ARROWS = (
    _arrow(_S.INIT, _S.TO_BE_BUILT, (145, 48), (195, 48)),
    _arrow(_S.TO_BE_BUILT, _S.BUILDING, (325, 48), (375, 48), both=True),
    _arrow(_S.BUILDING, _S.TO_BE_SUBMITTED, (505, 48), (555, 48)),
    _arrow(_S.TO_BE_SUBMITTED, _S.SUBMITTING, (685, 48), (735, 48), both=True),
    _arrow(_S.TO_BE_SUBMITTED, _S.TO_BE_BUILT, (620, 30), (620, 12), (260, 12), (260, 30)),
    _arrow(_S.TO_BE_BUILT, _S.HOLD, (280, 66), (280, 175), both=True),
    _arrow(_S.BUILDING, _S.HOLD, (430, 66), (430, 90), (330, 90), (330, 175)),
    _arrow(_S.TO_BE_SUBMITTED, _S.HOLD, (590, 66), (590, 90), (330, 90), (330, 175)),
    _arrow(_S.SUBMITTING, ON_SYSTEM - {_S.SUSPENDED}, (800, 66), (800, 112)),
    _arrow(_S.SUBMITTING, FINAL, (865, 48), (890, 48), (890, 348), (700, 348)),
    _arrow(ON_SYSTEM, FINAL, (440, 257), (440, 318)),
    _arrow(_S.TO_BE_BUILT, _EARLY_END, (210, 66), (210, 318)),
    _arrow(_S.BUILDING, _EARLY_END, (400, 66), (400, 78), (210, 78), (210, 318)),
    _arrow(_S.TO_BE_SUBMITTED, _EARLY_END, (570, 66), (570, 78), (210, 78), (210, 318)),
    _arrow(frozenset(RETRIES), _S.TO_BE_BUILT, (180, 348), (90, 348), (90, 90), (200, 90), (200, 66)),
)
"""Any status of the box may follow any other of it; that is said in words, not drawn."""


def drawn() -> set[tuple[Status, Status]]:
    """All transitions that the diagram shows."""
    pairs = {(old, new) for old in ON_SYSTEM for new in ON_SYSTEM}
    for arrow in ARROWS:
        pairs |= {(old, new) for old in arrow.sources for new in arrow.targets}
        if arrow.both:
            pairs |= {(new, old) for old in arrow.sources for new in arrow.targets}
    return {(old, new) for old, new in pairs if old is not new}


def svg() -> str:
    """The diagram.  Its colours are the reader's: lines take the colour of the text around them."""
    parts = [
        '<svg viewBox="0 0 905 385" role="img" aria-labelledby="life-title" font-family="sans-serif" font-size="14">',
        '<title id="life-title">The life of a job: its statuses, and which may follow which</title>',
        '<defs><marker id="m" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>',
        _box(*_SYSTEM_BOX, dashed=True),
        _label(610, 134, "an execution system has it: each of these may follow each other"),
        _box(180, 318, 520, 62, dashed=True),
        _label(725, 375, "final"),
        _label(150, 200, "cannot be built", small=True),
        _label(150, 216, "or routed, or", small=True),
        _label(150, 232, "was killed before", small=True),
        _label(44, 216, "retry of error", small=True),
        _label(44, 232, "or killed", small=True),
    ]
    parts += [_line(arrow) for arrow in ARROWS]
    parts += [_box(x, y, _WIDTH, _HEIGHT) + _label(x + _WIDTH // 2, y + 23, status.value) for status, (x, y) in PLACES.items()]
    return "\n".join([*parts, "</svg>"])


def _line(arrow: Arrow) -> str:
    points = " ".join(f"{x},{y}" for x, y in arrow.points)
    start = ' marker-start="url(#m)"' if arrow.both else ""
    return f'<polyline points="{points}" fill="none" stroke="currentColor"{start} marker-end="url(#m)"/>'


def _box(x: int, y: int, width: int, height: int, *, dashed: bool = False) -> str:
    style = 'fill="none" stroke="currentColor" stroke-dasharray="4 4"' if dashed else 'fill="#e8f0e8" stroke="currentColor"'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {style}/>'


def _label(x: int, y: int, text: str, *, small: bool = False) -> str:
    size = ' font-size="12"' if small else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle" fill="currentColor"{size}>{escape(text)}</text>'
