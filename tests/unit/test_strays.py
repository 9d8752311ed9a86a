"""Engines without their pid file are ended by their masters, and by nobody who only inherited a process of theirs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from execution_engine import master
from execution_engine.clock import SystemClock
from execution_engine.engine import machine
from execution_engine.engine.presence import MONITOR_TITLE
from execution_engine.master.master import MASTER_TITLE
from execution_engine.store.engine_registry import EngineRecord


@contextmanager
def titled(title: str, *then: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this title, with a child of that title perhaps, whose id it prints."""
    code = (
        "import subprocess, sys, time; from setproctitle import setproctitle; setproctitle(sys.argv[1]); "
        "child = subprocess.Popen([sys.executable, '-c', *sys.argv[2:]]) if sys.argv[2:] else None; "
        "print(child.pid if child else 0, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, title, *then], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            for each in [*psutil.Process(process.pid).children(), process]:
                each.kill()


def engine(pid: int, run_dir: Path) -> EngineRecord:
    now = SystemClock().now()
    return EngineRecord(
        id="e",
        host="h",
        kernel=machine.kernel(),
        pid=pid,
        run_dir=str(run_dir),
        started=now,
        lease=60,
        lanes=(),
        beats=1,
        beat_at=now,
    )


def test_the_parent_of_an_orphaned_monitor_is_not_taken_for_its_master(tmp_path: Path) -> None:
    with titled(MONITOR_TITLE) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        assert machine.runs(monitor.pid, MONITOR_TITLE)
        assert master.strays([engine(monitor.pid, tmp_path)], tmp_path) == []


def test_a_master_is_found_by_its_monitor(tmp_path: Path) -> None:
    child = f"import time; from setproctitle import setproctitle; setproctitle({MONITOR_TITLE!r}); time.sleep(60)"
    with titled(MASTER_TITLE, child) as process:
        assert process.stdout is not None
        monitor = int(process.stdout.readline())
        while not machine.runs(monitor, MONITOR_TITLE):
            assert psutil.pid_exists(monitor)
        assert master.strays([engine(monitor, tmp_path)], tmp_path) == [process.pid]
