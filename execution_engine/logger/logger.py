"""The logger: takes events, and writes what is worth a line to the log file and to the terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from execution_engine import config
from execution_engine.clock import Clock, SystemClock
from execution_engine.errors import DaemonError
from execution_engine.events import Record
from execution_engine.logger import lines
from execution_engine.logger.collapse import OUTAGE_EVENTS, Bursts, Outages
from execution_engine.logger.log_file import LogFile
from execution_engine.logger.wording import TRANSITION, Level, identity, level_of, text_of

_TRY_AGAIN_AFTER = 1.0
_Told = tuple[Record, Level, str]
"""An event that is worth a line, how much it matters, and its words."""


class Logger:
    """Writes events to the log file, and to `terminal` if there is one (for people, in colour, when it is a tty).

    A log that cannot be written stops nobody: lines that are lost are counted, and the count is the first line when it works
    again.  `tick` is to be called every few seconds, for what falls due while no event comes.
    """

    def __init__(self, settings: config.Log, *, terminal: TextIO | None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._terminal = terminal
        self._outages = Outages(self._clock)
        self._bursts = Bursts(self._clock)
        self._lost = 0
        self._fault = ""
        self._try_again = 0.0
        self._apply(settings)

    def open(self) -> None:
        """Opens the log file now.  Raises DaemonError when it cannot be written, so that a start can fail by it."""
        try:
            self._file.open()
        except OSError as error:
            raise DaemonError(f"the log cannot be written: {error}; mend it, or set log.file to another path") from None

    def handle(self, records: Sequence[Record]) -> None:
        """Takes events and writes the lines of all at once.  Never raises; can be given to `events.send_to`."""
        self._write(told for record in records for told in self._told(record))

    def tick(self) -> None:
        """Tells how often a fault was repeated, notices a rotation by somebody else, and tries a log again that failed."""
        self._write(self._repeated())
        try:
            self._file.close_if_moved()
        except OSError as error:
            self._failed(error)
        if self._lost:
            self._write_to_file([])

    def reopen(self) -> None:
        """Closes the log file and opens it by its name again (logrotate)."""
        self._file.close()
        self._try_again = 0.0

    def reconfigure(self, settings: config.Log) -> None:
        """Goes on with other settings."""
        self._file.close()
        self._apply(settings)
        self._try_again = 0.0

    def close(self) -> None:
        """Writes what is still to be told, and closes the file."""
        self._write(self._repeated(all_of_them=True))
        self._file.close()

    def _apply(self, settings: config.Log) -> None:
        self._level = Level[settings.level.upper()]
        self._format = settings.format
        self._file = LogFile(settings.file, max_size=settings.max_size, keep=settings.keep)

    def _told(self, record: Record) -> Iterator[Record]:
        """What is to be told when this event comes."""
        if lost := record.get("lost_before"):
            yield self._own("log.lost", lines=lost, of=f"{record.get('process')}[{record.get('pid')}]")
        told = self._outages.pass_on(record) if record.get("event") in OUTAGE_EVENTS else record
        if told is None:
            return
        if level_of(told) < Level.WARNING or told.get("event") == TRANSITION or self._bursts.is_first(identity(told), told):
            yield told
        yield from self._repeated()

    def _repeated(self, *, all_of_them: bool = False) -> Iterator[Record]:
        for record in self._bursts.over(all_of_them=all_of_them):
            yield {**record, "at": time.time()}

    def _write(self, records: Iterable[Record]) -> None:
        told = [(record, level, text_of(record)) for record in records if (level := level_of(record)) >= self._level]
        if told:
            self._write_to_file(told)
            if self._terminal is not None:
                self._write_to_terminal(self._terminal, told)

    def _line(self, record: Record, level: Level, text: str) -> str:
        return lines.as_json(record, level, text) if self._format == "json" else lines.human(record, level, text)

    def _write_to_file(self, told: Iterable[_Told]) -> None:
        """Writes the lines of what is told, and before them how many could not be written."""
        waiting = [_encoded(self._line(*one)) for one in told]
        if self._lost and self._clock.monotonic() < self._try_again:
            self._lost += len(waiting)
            return
        try:
            if self._lost:
                lost = self._own("log.lost", lines=self._lost, error=self._fault)
                self._file.write([_encoded(self._line(lost, level_of(lost), text_of(lost)))])
                self._lost = 0
            self._file.write(waiting)
        except OSError as error:
            self._lost += len(waiting)
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._fault = str(error)
        self._try_again = self._clock.monotonic() + _TRY_AGAIN_AFTER

    def _write_to_terminal(self, terminal: TextIO, told: Iterable[_Told]) -> None:
        try:
            tty = terminal.isatty()
            text = "".join(f"{lines.human(*one, colour=True) if tty else self._line(*one)}\n" for one in told)
            encoding = terminal.encoding or "utf-8"
            terminal.write(text.encode(encoding, "backslashreplace").decode(encoding))
            terminal.flush()
        except (OSError, ValueError) as error:
            self._terminal = None
            self.handle([self._own("log.terminal_gone", error=str(error))])

    def _own(self, event: str, **facts: object) -> Record:
        return {"event": event, "at": time.time(), "process": "log", "pid": os.getpid(), **facts}


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
