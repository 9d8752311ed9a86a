"""The command line as a person at a terminal has it: real processes, a pseudo-terminal, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from execution_engine.clock import SystemClock
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change
from execution_engine.store.journal import Entry
from tests.support.commands import CommandLine, move_all

EXECD = [sys.executable, str(Path(__file__).parents[2] / "bin" / "execd")]


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


class Terminal:
    """`execd` in a pseudo-terminal; `shown` is all that it has written."""

    def __init__(self, site: CommandLine, *words: str) -> None:
        try:
            self._ours, theirs = pty.openpty()
        except OSError as error:
            pytest.skip(f"no pseudo-terminals here ({error}): mount -t devpts devpts /dev/pts")
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24"}
        command = [*EXECD, "-c", str(site.file), *words]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def read(self) -> str:
        try:
            self.shown += os.read(self._ours, 1 << 16).decode("utf-8", "replace")
        except OSError:
            pass
        return self.shown

    def until(self, words: str) -> None:
        until(lambda: words in self.read(), lambda: f"{words!r} in {self.shown!r}")

    def ended(self) -> int:
        until(lambda: (self.read(), self.process.poll())[1] is not None, lambda: f"an end after {self.shown!r}")
        self.read()
        return self.process.returncode


def until(condition: Callable[[], bool], what: Callable[[], str], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what()}"
        time.sleep(0.02)


def finish_all(execd: CommandLine) -> None:
    with execd.client() as client:
        jobs = client.store.on_system("here")
        client.store.apply([Change(job, Status.FINISHED) for job in jobs], "test", SystemClock().now())


def test_watch_keeps_the_table_up_to_date_until_ctrl_c(execd: CommandLine):
    with Terminal(execd, "jobs", "--watch", "--interval", "100ms") as terminal:
        terminal.until("STATUS")
        execd("submit", "--name", "late [red]\x1b[2J", "--", "true")
        terminal.until(r"late [red]\x1b[2J")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.shown


def test_wait_shows_a_progress_bar(execd: CommandLine):
    ids = execd.json("submit", "-", stdin="[{command: x}, {command: x}]")["ids"]
    with execd.client() as client:
        move_all(client.store, Status.RUNNING)
    with Terminal(execd, "wait", *ids) as terminal:
        terminal.until("2 running, 0 failed")
        finish_all(execd)
        terminal.until("2/2")
        assert terminal.ended() == 0


def test_a_table_on_a_terminal_holds_no_characters_of_a_job_that_it_would_obey(execd: CommandLine):
    execd("submit", "--name", "\x1b]0;owned\x07", "--", "true")
    with Terminal(execd, "jobs") as terminal:
        assert terminal.ended() == 0
        assert r"\x1b]0;owned\x07" in terminal.shown
        assert "\x1b]0;owned" not in terminal.shown


def test_logs_follow_a_job_until_it_has_ended(execd: CommandLine, tmp_path: Path):
    (job,) = execd.json("submit", "-", stdin="{command: x}")["ids"]
    command = [*EXECD, "-c", str(execd.file), "logs", "-f", job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        with execd.client() as client:
            move_all(client.store, Status.RUNNING, dir=str(tmp_path))
        with (tmp_path / "stdout").open("wb", buffering=0) as output:
            output.write(b"first\n")
            assert following.stdout.readline() == b"first\n"
            output.write(b"second\n")
            assert following.stdout.readline() == b"second\n"
            output.write(b"last")
            finish_all(execd)
        assert following.communicate(timeout=20) == (b"last", b"")
        assert following.returncode == 0


def a_death(engine: str, ago: timedelta = timedelta()) -> Entry:
    return Entry(SystemClock().now() - ago, "monitor.died", engine, (), {"how": "x", "restart_in": 1.0}, f"{time.time_ns()}")


@pytest.mark.parametrize("which", [["--since", "10m"], ["--limit", "1"]], ids=" ".join)
def test_events_that_are_followed_begin_where_those_that_are_asked_for_do(execd: CommandLine, which: list[str]):
    with execd.client() as client:
        journal = client.store.journal
        journal.append([a_death("old", timedelta(minutes=10, seconds=n)) for n in (40, 20, 5)])
        if "--limit" in which:
            journal.append([a_death("found", timedelta(minutes=10))])
        command = [*EXECD, "-c", str(execd.file), "events", "-f", *which]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            if "--limit" in which:
                lines = [following.stdout.readline()]
            else:
                lines = []
                time.sleep(2)  # nothing tells that it has looked
            for name in ("first", "second"):
                journal.append([a_death(name)])
                lines.append(following.stdout.readline())
            following.send_signal(signal.SIGINT)
            assert following.communicate(timeout=20) == ("", "")
    assert [line.split("  ")[1] for line in lines] == ["found"] * ("--limit" in which) + ["first", "second"]


def test_ctrl_c_ends_a_simulation_with_a_summary_of_what_is_in_the_database(execd: CommandLine):
    command = [*EXECD, "-c", str(execd.file), "simulate", "--json", "--interval", "0.05", "--batch", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as simulation:
        with execd.client() as client:
            until(lambda: len(client.find()) >= 3, lambda: "three jobs inserted")
        simulation.send_signal(signal.SIGINT)
        out, err = simulation.communicate(timeout=20)
    assert simulation.returncode == 1
    assert err == b""
    assert sorted(json.loads(out)["ids"]) == sorted(job["_id"] for job in execd.json("jobs"))


def test_a_reader_that_goes_away_causes_no_traceback(execd: CommandLine):
    execd("simulate", "--jobs", "300", "--interval", "0", "--batch", "300")
    command = " ".join([*EXECD, "-c", str(execd.file), "jobs", "--json"])
    done = subprocess.run(["sh", "-c", f"{command} | head -c 10"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[{")
    assert done.stderr == ""
