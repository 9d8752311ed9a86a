"""The logger: what is written, collapsed, rotated, and what happens when it cannot be written."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Log
from execution_engine.errors import DaemonError
from execution_engine.logger import Logger
from execution_engine.logger.collapse import Bursts
from tests.support.clocks import HeldClock

Made = Callable[..., Logger]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "execd.log"


@pytest.fixture
def made(path: Path, clock: HeldClock) -> Made:
    def make(terminal: Any = None, **settings: Any) -> Logger:
        return Logger(Log(file=path, **settings), terminal=terminal, clock=clock)

    return make


def event(name: str, **facts: Any) -> dict[str, Any]:
    return {"event": name, "at": 1795190645.0, "process": "execd: monitor", "pid": 7, **facts}


def transition(number: int = 1, **facts: Any) -> dict[str, Any]:
    return event("job.transition", **{"job": f"j{number}", "old": "pending", "new": "running", **facts})


def texts(path: Path) -> list[str]:
    """The lines without time, level and process."""
    return [line.split("] ", 1)[-1] for line in path.read_text().splitlines()]


def test_the_file_is_its_owners_alone_and_its_directory_is_made(made: Made, path: Path) -> None:
    made().handle([transition()])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert texts(path) == ["job j1 pending → running"]


def test_an_existing_file_keeps_its_mode_and_its_lines(made: Made, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("before] before\n")
    path.chmod(0o640)
    made().handle([transition()])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert texts(path) == ["before", "job j1 pending → running"]


def test_json_lines_hold_the_record_itself_with_level_and_message(made: Made, path: Path) -> None:
    made(format="json").handle([transition(new="error", why="größe")])
    told = json.loads(path.read_text())
    assert told["level"] == "info"
    assert told["time"] == "2026-11-20T16:04:05.000Z"
    assert told["message"] == "job j1 pending → error: größe"
    assert (told["event"], told["job"], told["pid"]) == ("job.transition", "j1", 7)


def test_the_level_decides_what_is_written(made: Made, path: Path) -> None:
    log = made(level="warning")
    log.handle([transition()])
    log.handle([event("actor.started", actor="a")])
    log.handle([transition(new="error", trouble="node lost")])
    assert texts(path) == ["job j1 pending → error, node lost"]


def test_events_that_come_together_are_written_at_once(made: Made, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []

    def counted(fd: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
        writes.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    made().handle([transition(number) for number in range(5)])
    assert len(writes) == 1
    assert texts(path) == [f"job j{number} pending → running" for number in range(5)]


@pytest.mark.parametrize("together", [1, 7, 600])
def test_a_file_that_grew_too_large_is_rotated_and_the_oldest_goes(made: Made, path: Path, together: int) -> None:
    log = made(max_size=10_000, keep=2)
    for first in range(0, 600, together):
        log.handle([transition(number) for number in range(first, min(first + together, 600))])
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert names == ["execd.log", "execd.log.1", "execd.log.2"]
    sizes = [entry.stat().st_size for entry in path.parent.iterdir()]
    assert max(sizes) <= 10_000
    assert sorted(sizes)[1] > 9_900
    kept = [*texts(path.parent / "execd.log.2"), *texts(path.parent / "execd.log.1"), *texts(path)]
    assert kept == [f"job j{number} pending → running" for number in range(600 - len(kept), 600)]


def test_a_line_larger_than_the_limit_is_written_whole(made: Made, path: Path) -> None:
    made(max_size=10_000, keep=2).handle([transition(1), transition(2, why="x" * 20_000), transition(3)])
    assert texts(path.parent / "execd.log.2") == ["job j1 pending → running"]
    assert texts(path.parent / "execd.log.1") == ["job j2 pending → running: " + "x" * 20_000]
    assert texts(path) == ["job j3 pending → running"]


def test_a_file_rotated_by_somebody_else_is_noticed(made: Made, path: Path) -> None:
    log = made()
    log.handle([transition(1)])
    path.rename(path.with_suffix(".old"))
    log.tick()
    log.handle([transition(2)])
    assert texts(path) == ["job j2 pending → running"]


def test_reopen_writes_to_the_file_that_has_the_name_now(made: Made, path: Path) -> None:
    log = made()
    log.handle([transition(1)])
    path.rename(path.with_suffix(".old"))
    log.reopen()
    log.handle([transition(2)])
    assert texts(path) == ["job j2 pending → running"]
    assert texts(path.with_suffix(".old")) == ["job j1 pending → running"]


def test_new_settings_hold_from_now_on(made: Made, path: Path, tmp_path: Path) -> None:
    log = made()
    log.handle([transition(1)])
    log.reconfigure(Log(file=tmp_path / "other.log", format="json", level="debug"))
    log.handle([event("actor.started", actor="a")])
    assert texts(path) == ["job j1 pending → running"]
    assert json.loads((tmp_path / "other.log").read_text())["event"] == "actor.started"


def test_an_unwritable_log_stops_nobody_and_its_lost_lines_are_told_later(made: Made, path: Path, clock: HeldClock) -> None:
    path.mkdir(parents=True)  # a directory where the file should be: fails for root too
    log = made()
    for number in range(5):
        log.handle([transition(number)])
    path.rmdir()
    log.handle([transition(6)])  # too early for another try
    clock.move(2)
    log.handle([transition(7)])
    lost, last = texts(path)
    assert lost.startswith("6 log lines were lost: [Errno 21] Is a directory")
    assert last == "job j7 pending → running"


def test_lost_lines_are_told_by_a_tick_when_no_event_comes(made: Made, path: Path, clock: HeldClock) -> None:
    path.mkdir(parents=True)
    log = made()
    log.handle([transition()])
    path.rmdir()
    clock.move(2)
    log.tick()
    assert [line.partition(":")[0] for line in texts(path)] == ["1 log lines were lost"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_raise() -> None:
    log = Logger(Log(file=Path("/dev/full")), terminal=None)
    for number in range(3):
        log.handle([transition(number)])
    log.tick()
    log.close()


def test_a_line_that_found_no_room_leaves_no_part_of_itself(path: Path, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # write() takes what fits, then fails
        log = Logger(Log(file=path), terminal=None)
        log.handle([transition(1)])
        log.handle([transition(2, why="x" * 1000)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert texts(path) == ["job j1 pending → running"]
    assert path.read_text().endswith("\n")


def test_of_lines_that_come_together_those_are_lost_for_which_the_disk_has_no_room(path: Path, clock: HeldClock) -> None:
    child = os.fork()
    if child == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        log = Logger(Log(file=path), terminal=None, clock=clock)
        long = event("rule.failed", rule="big", error="boom", traceback="a line\n" * 100)
        log.handle([transition(1), transition(2), long, transition(3), transition(4)])
        log.handle([transition(5), transition(6)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        clock.move(2)
        log.handle([transition(7)])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    first, second, lost, last = texts(path)
    assert (first, second) == ("job j1 pending → running", "job j2 pending → running")
    assert lost == "5 log lines were lost: [Errno 27] File too large"
    assert last == "job j7 pending → running"


def test_open_says_why_the_log_cannot_be_written(made: Made, path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(DaemonError, match="Is a directory"):
        made().open()


class Tty(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colour_and_a_pipe_gets_none(made: Made) -> None:
    tty, pipe = Tty(), io.StringIO()
    made(terminal=tty).handle([transition()])
    made(terminal=pipe).handle([transition()])
    assert "\x1b[32mINFO" in tty.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_json_is_for_pipes_and_never_for_people(made: Made) -> None:
    tty, pipe = Tty(), io.StringIO()
    made(terminal=tty, format="json").handle([transition()])
    made(terminal=pipe, format="json").handle([transition()])
    assert json.loads(pipe.getvalue())["job"] == "j1"
    assert not tty.getvalue().startswith("{")


def test_a_terminal_without_unicode_gets_a_readable_line(made: Made) -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii")
    made(terminal=terminal).handle([transition()])
    assert rb"pending \u2192 running" in raw.getvalue()


def test_a_terminal_that_went_away_does_no_harm(made: Made, path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    terminal = open(writer, "w")  # noqa: SIM115 - its end is the test
    log = made(terminal=terminal)
    log.handle([transition(1)])
    log.handle([transition(2)])
    assert [text for text in texts(path) if "terminal" not in text] == ["job j1 pending → running", "job j2 pending → running"]
    assert sum("the terminal takes no more lines" in text for text in texts(path)) == 1
    with pytest.raises(BrokenPipeError):
        terminal.close()


def test_an_outage_is_two_lines_however_many_processes_report_it(made: Made, path: Path, clock: HeldClock) -> None:
    log = made()
    for _ in range(21):
        for pid in (1, 2, 3):
            log.handle(
                [event("outage" if clock.monotonic() > 1000 else "outage.begun", what="database", error="refused", pid=pid)]
            )
        clock.move(1)
    for pid in (1, 2, 3):
        log.handle([event("outage.ended", what="database", after=20.9, attempts=21, pid=pid)])
    assert texts(path) == ["database does not answer: refused", "database answers again after 21s (63 failed attempts)"]


def test_a_long_outage_is_brought_to_mind_once_a_minute(made: Made, path: Path, clock: HeldClock) -> None:
    log = made()
    for _ in range(130):
        log.handle([event("outage", what="system cluster", error="timeout")])
        clock.move(1)
    assert texts(path) == [
        "system cluster does not answer: timeout",
        "system cluster still does not answer after 1m00s (61 failed attempts): timeout",
        "system cluster still does not answer after 2m00s (121 failed attempts): timeout",
    ]


def test_two_outages_at_a_time_are_two_stories(made: Made, path: Path) -> None:
    log = made()
    for what in ("database", "system a", "database", "system a"):
        log.handle([event("outage", what=what, error="x")])
    log.handle([event("outage.ended", what="database")])
    assert texts(path) == [
        "database does not answer: x",
        "system a does not answer: x",
        "database answers again after 0s (2 failed attempts)",
    ]


def test_an_outage_whose_end_nobody_told_is_forgotten(made: Made, path: Path, clock: HeldClock) -> None:
    log = made()
    log.handle([event("outage.begun", what="database", error="x")])
    clock.move(400)
    log.handle([event("outage.begun", what="database", error="y")])
    log.handle([event("outage.ended", what="database")])
    assert texts(path)[1:] == ["database does not answer: y", "database answers again after 0s (1 failed attempts)"]


def test_the_same_fault_many_times_is_one_line_and_a_count(made: Made, path: Path, clock: HeldClock) -> None:
    log = made()
    for number in range(1000):
        log.handle([event("rule.failed", rule="big", route="r", error="boom", job=str(number), traceback="Traceback")])
    clock.move(61)
    log.tick()
    assert texts(path) == [
        "rule big of route r failed, which counts as no; job 0: boom",
        "    | Traceback",
        "rule big of route r failed, which counts as no; job 999: boom (and 999 more like this in 1m01s)",
    ]


def test_transitions_are_never_collapsed(made: Made, path: Path) -> None:
    log = made()
    for _ in range(3):
        log.handle([transition(new="error")])
    assert len(texts(path)) == 3


def test_what_is_still_counted_is_told_at_the_end(made: Made, path: Path) -> None:
    log = made()
    for _ in range(3):
        log.handle([event("job.lost", job="1")])
    log.close()
    assert [("2 more like this" in text) for text in texts(path)] == [False, True]


def test_the_memory_for_bursts_is_bounded() -> None:
    bursts = Bursts(SystemClock())
    for number in range(5000):
        bursts.is_first(number, event("x"))
        bursts.over()
    assert len(bursts._bursts) <= 1001


def test_events_that_a_process_could_not_send_are_told(made: Made, path: Path) -> None:
    made().handle([transition(lost_before=3)])
    assert texts(path) == ["3 log lines of execd: monitor[7] were lost", "job j1 pending → running"]
