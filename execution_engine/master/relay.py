"""From the master to the journal: the master hears every event but holds no database connection, the monitor has one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from execution_engine.engine.channel import Channel
from execution_engine.events import Record
from execution_engine.logger import Logger
from execution_engine.logger.wording import KEPT

_MOST_WAITING = 1000
_AT_A_TIME = 50
_LONGEST = (4000, 1000, 100)
"""Letters of a text, and four times the items of a list: the first of these with which an event fits into a packet."""
_PACKET = 100_000
"""Bytes; a socket takes about twice as much."""
_LARGEST = 1 << 53
_LEFT_OUT = frozenset({"traceback", "lost_before"})


class Relay:
    """Writes events to the log, and hands those that the journal keeps to the monitor.

    An event waits here until the monitor says that it is stored: while there is no monitor, or none that lives long enough, or
    no database.  Of too many, the latest are kept.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._waiting: list[Record] = []
        self._handed_over = 0
        self._number = count()
        self.engine = ""
        """boot id of the engine that events are about: of the monitor that works, or worked last"""

    def handle(self, records: Sequence[Record]) -> None:
        """Takes events.  Never raises; can be given to `events.send_to`."""
        self._log.handle(records)
        for record in records:
            if record.get("event") in KEPT:
                self._keep(record)

    def _keep(self, record: Record) -> None:
        known_by = f"{time.time_ns():016x}.{next(self._number)}"
        self._waiting.append({"engine": self.engine, **_fitting(record), "at": time.time(), "id": known_by})
        if len(self._waiting) - self._handed_over > _MOST_WAITING:
            del self._waiting[self._handed_over]

    def renew(self) -> None:
        """There is another monitor: whatever was handed to the one before may not have been stored."""
        self._handed_over = 0

    def hand_over(self, monitor: Channel) -> None:
        """Gives the monitor what waits, as far as it has room for it."""
        while self._handed_over < min(len(self._waiting), _AT_A_TIME):
            if not monitor.send({"journal": self._waiting[self._handed_over]}, patience=0):
                return
            self._handed_over += 1

    def stored(self, number: int) -> None:
        """The monitor has stored so many of those that it was given."""
        del self._waiting[:number]
        self._handed_over -= number


def _fitting(record: Record) -> Record:
    """The event as each channel and each database can hold it, whoever sent it: with short texts, numbers and lists of texts."""
    facts = {name: value for name, value in record.items() if name.isidentifier() and name not in _LEFT_OUT and value is not None}
    for longest in _LONGEST:
        plain = {name: _plain(value, longest) for name, value in facts.items()}
        if len(json.dumps(plain)) < _PACKET:
            return plain
    return {"event": record["event"]}


def _plain(value: Any, longest: int) -> Any:
    """A text, a number, or a list of texts."""
    if isinstance(value, list):
        return [_plain(str(item), longest) for item in value[: longest // 4]]
    if isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < _LARGEST):
        return value
    return str(value)[:longest].encode("utf-8", "replace").decode().replace("\0", "?")
