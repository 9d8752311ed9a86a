"""What an engine needs goes away in the middle of its work, for a moment or for long: no job is lost, failed or run twice for it.

The outages are shorter than in life, and so is `engine.retry_delay`: what matters is that the longest delay is reached and
waited for several times.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Database
from execution_engine.jobs.status import TRANSITIONS, Status
from tests.support.databases import MongoServer
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.stepping_down import INTERRUPTED, NOT_WRITABLE_PRIMARY, UNCONFIRMED, SteppingDownProxy

JOBS = 40
IMPATIENT = {"retry_delay": {"min": "0.1s", "max": "0.4s"}}
SLOTS = {"here": {"class": "Local", "slots": 8}}
NOBODY = 65534
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
MOMENT, LONG = 1.0, 4.0
"""Seconds of an outage: the second is many times the longest delay between two tries."""


def submit_counted(engine: Engine, count: int = JOBS, command: str = "sleep 0.05") -> list[Any]:
    """Jobs that leave a line each time that they run."""
    (engine.directory / "ran").mkdir(exist_ok=True)
    line = f"echo $EXECD_JOB_ID >> {engine.directory}/ran/$EXECD_JOB_ID"
    return engine.submit(*({"command": f"{line}; {command}"} for _ in range(count)))


def runs(engine: Engine) -> Counter[str]:
    return Counter(line for path in (engine.directory / "ran").iterdir() for line in path.read_text().split())


def in_their_midst(engine: Engine, count: int = JOBS) -> None:
    """Some of the jobs have run, others have not."""
    until(lambda: len(runs(engine)) >= count // 8, "some jobs ran")
    assert len(runs(engine)) < count


def nothing_was_lost(engine: Engine, ids: list[Any], timeout: float = 90.0) -> None:
    """All finished, each ran once, by a legal way, and no actor is to blame for anything."""
    jobs = engine.wait(ids, timeout)
    assert Counter(job["status"] for job in jobs) == {"finished": len(ids)}, [job["error"] for job in jobs if job["error"]][:3]
    ran = runs(engine)
    assert {str(job_id): ran[str(job_id)] for job_id in ids} == {str(job_id): 1 for job_id in ids}
    for job in jobs:
        way = [Status.TO_BE_BUILT, *(Status(entry["status"]) for entry in job["history"])]
        assert all(after in TRANSITIONS[before] for before, after in pairwise(way)), way
    assert "by a fault of the engine" not in engine.log()


def database_of(engine: Engine) -> Path:
    return Path(engine.config.database.url.removeprefix("sqlite:///"))


# --- the database


def _moved_away(engine: Engine) -> Callable[[], None]:
    database = database_of(engine)
    away = database.parent / "away"
    away.mkdir()
    taken = [file.rename(away / file.name) for file in sorted(database.parent.glob(f"{database.name}*"))]

    def back() -> None:
        for file in reversed(taken):  # the database last: who opened it without its log would begin another one
            file.rename(database.parent / file.name)

    return back


def _full(engine: Engine) -> Callable[[], None]:
    filling = database_of(engine).parent / "filling"
    with filling.open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), b"x" * 4096)
            except OSError:
                break
    return filling.unlink


@pytest.mark.parametrize("seconds", [MOMENT, LONG])
@pytest.mark.parametrize("take_away", [_moved_away, _full])
def test_an_embedded_database_that_goes_away_in_the_middle_of_a_batch_costs_no_job(
    make_engine: MakeEngine, small_disk: Path, take_away: Callable[[Engine], Callable[[], None]], seconds: float
) -> None:
    engine = make_engine(database={"url": f"sqlite:///{small_disk}/execd.db"}, engine=IMPATIENT, execution_systems=SLOTS)
    engine.start()
    ids = submit_counted(engine)
    in_their_midst(engine)
    back = take_away(engine)
    until(lambda: "database does not answer" in engine.log(), "the log says so")
    time.sleep(seconds)
    back()
    nothing_was_lost(engine, ids)
    assert engine.log().count("database does not answer") == engine.log().count("database answers again") == 1


def test_a_writer_that_keeps_the_embedded_database_locked_is_waited_for(make_engine: MakeEngine) -> None:
    engine = make_engine(engine=IMPATIENT, execution_systems=SLOTS)
    engine.start()
    ids = submit_counted(engine)
    in_their_midst(engine)
    other = sqlite3.connect(database_of(engine), timeout=30, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(LONG)
    other.execute("ROLLBACK")
    other.close()
    nothing_was_lost(engine, ids)


def test_a_journal_that_cannot_be_written_holds_no_job_up(make_engine: MakeEngine) -> None:
    engine = make_engine(engine=IMPATIENT, execution_systems=SLOTS)
    engine.start()
    engine.run({"command": ["true"]})
    with contextlib.closing(sqlite3.connect(database_of(engine), timeout=30, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER refused BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'refused'); END")
        actor = until(lambda: engine.process("execd: building"), "an actor waits for more")
        actor.kill()
        until(lambda: "journal does not answer" in engine.log(), "the log says so")
        nothing_was_lost(engine, submit_counted(engine, 8), timeout=30)
        (outage,) = until(lambda: engine.state()["outages"], "the state says so")
        assert (outage["what"], "refused" in outage["error"]) == ("journal", True)
        other.execute("DROP TRIGGER refused")
    until(lambda: "actor.crashed" in engine.execd("events", "--json").stdout, "the journal was caught up")
    until(lambda: "journal answers again" in engine.log(), "the log says so")
    assert engine.log().count("journal does not answer") == 1
    assert "database does not answer" not in engine.log()


def on_mongodb(make_engine: MakeEngine, database: Database, url: str) -> Engine:
    engine = make_engine(database={"url": url, "name": database.name, "timeout": "1s"}, engine=IMPATIENT, execution_systems=SLOTS)
    engine.start()
    return engine


@pytest.mark.mongodb
@pytest.mark.parametrize("seconds", [MOMENT, LONG])
def test_a_database_server_that_dies_in_the_middle_of_a_batch_costs_no_job(
    own_mongodb_server: MongoServer, mongodb_database: Database, make_engine: MakeEngine, seconds: float
) -> None:
    engine = on_mongodb(make_engine, mongodb_database, mongodb_database.url)
    ids = submit_counted(engine)
    in_their_midst(engine)
    own_mongodb_server.stop()
    time.sleep(seconds)
    own_mongodb_server.start()
    nothing_was_lost(engine, ids)


@pytest.mark.mongodb
@pytest.mark.parametrize(
    "answer", [NOT_WRITABLE_PRIMARY, INTERRUPTED, UNCONFIRMED], ids=["refused", "interrupted", "unconfirmed"]
)
def test_a_primary_that_steps_down_in_the_middle_of_a_batch_costs_no_job(
    own_mongodb_server: MongoServer, mongodb_database: Database, make_engine: MakeEngine, answer: dict[str, Any]
) -> None:
    proxy = SteppingDownProxy(own_mongodb_server.port)
    try:
        engine = on_mongodb(make_engine, mongodb_database, f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true")
        ids = submit_counted(engine)
        in_their_midst(engine)
        proxy.stepped_down = answer
        until(lambda: proxy.refused > 2, "writes were refused")
        time.sleep(MOMENT)
        proxy.stepped_down = None
        nothing_was_lost(engine, ids)
        assert "SIGKILL" not in engine.log()
        engine.stop()
    finally:
        proxy.close()


# --- disks


def fill(directory: Path) -> Path:
    filling = directory / "filling"
    filling.write_bytes(b"x" * shutil.disk_usage(directory).free)
    return filling


def test_a_log_on_a_full_disk_costs_no_job_and_says_afterwards_what_is_missing(make_engine: MakeEngine, small_disk: Path) -> None:
    engine = make_engine(log={"file": str(small_disk / "execd.log")}, execution_systems=SLOTS)
    engine.start()
    filling = fill(small_disk)
    nothing_was_lost(engine, submit_counted(engine))
    filling.unlink()
    engine.run({"command": ["true"]})
    until(lambda: "log lines" in engine.log() and "were lost" in engine.log(), "the log says what is missing")


def test_a_full_run_directory_costs_no_job(small_disk: Path, make_engine: MakeEngine) -> None:
    """The disk is given first, so that it goes last: without its run directory nobody could end the engine."""
    engine = make_engine(run_dir=str(small_disk / "run"), execution_systems=SLOTS)
    engine.start()
    filling = fill(small_disk)
    nothing_was_lost(engine, submit_counted(engine))
    until(lambda: "cannot be written" in engine.log(), "the log says so")
    filling.unlink()
    nothing_was_lost(engine, submit_counted(engine))


def test_a_full_disk_is_told_as_such_by_every_command(small_disk: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(
        database={"url": f"sqlite:///{small_disk}/execd.db"},
        run_dir=str(small_disk / "run"),
        jobs_dir=str(small_disk / "jobs"),
        execution_systems=SLOTS,
    )
    engine.start()
    engine.stop()
    fill(small_disk)
    start, status, doctor = (engine.execd(word, check=False) for word in ("start", "status", "doctor"))
    assert start.returncode == 1
    assert f"{small_disk}/run/execd.pid cannot be written by user root: No space left on device; make room" in start.stderr
    assert f"{small_disk}/execd.db: the disk is full; make room on the file system of its directory" in status.stdout
    assert "clock of jobs dir" in doctor.stdout
    assert "cannot be seen: No space left on device; make room" in doctor.stdout


# --- the machine


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the wall clock of the processes that load it: the machine's own is not for a test to set.

    The times of files stay as they are, as those of a file server whose clock was right.
    """
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build a library that shifts the clock: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    source = Path(__file__).parents[1] / "support" / "shifted_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source)], check=True)
    return library


@pytest.mark.parametrize("jump", ["3600", "-3600"])
def test_a_clock_that_jumps_by_an_hour_costs_no_job_and_no_time(
    make_engine: MakeEngine, short_dir: Path, shifted_clock: Path, jump: str
) -> None:
    shift = short_dir / "shift"
    engine = make_engine(engine={"grace": "2s"}, execution_systems=SLOTS)
    engine.execd("start", env={**os.environ, "LD_PRELOAD": str(shifted_clock), "SHIFTED_CLOCK": str(shift)})
    ids = submit_counted(engine, command="sleep 0.2")
    in_their_midst(engine)
    shift.write_text(jump)
    nothing_was_lost(engine, [*ids, *submit_counted(engine)], timeout=30)
    shifted = SystemClock().now() + timedelta(seconds=int(jump))
    last = max(job["history"][-1]["at"] for job in map(engine.job, ids))
    assert int(jump) < 0 or abs(last - shifted) < timedelta(minutes=10), "the engine saw the jump"
    assert "no progress" not in engine.log()
    engine.stop()


@pytest.mark.alone
def test_a_process_that_cannot_be_forked_is_forked_later(make_engine: MakeEngine, short_dir: Path) -> None:
    """The limit on processes does not bind root, so the engine is another user's then, one who may read what root may."""
    engine = make_engine(execution_systems=SLOTS, engine={"actor_linger": "0s"})
    log, uid, user = engine.config.log.file, os.geteuid(), ()
    if uid == 0:
        uid, user = NOBODY, AS_NOBODY
        short_dir.chmod(0o755)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(engine.directory)], check=True)
    others = sum(process.num_threads() for process in psutil.process_iter() if process.uids().real == uid)
    limit = (others + 12, resource.getrlimit(resource.RLIMIT_NPROC)[1])
    engine.execd("start", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, limit), through=user)
    crowd = [subprocess.Popen([*user, "sleep", "100"]) for _ in range(12)]
    try:
        engine.execd("submit", "--", "true", through=user)
        until(lambda: "could not be forked" in log.read_text(), "the log says so")
        end(crowd)
        until(lambda: "→ finished" in log.read_text(), "the job went on")
    finally:
        end(crowd)
        engine.execd("stop", check=False, through=user)
        subprocess.run(["chown", "-R", str(os.geteuid()), str(engine.directory)], check=True)


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def test_running_jobs_need_no_open_file_each(make_engine: MakeEngine) -> None:
    """As 2,000 jobs and a limit of 1,024: many more jobs than files that a process may have open."""
    count, files = 300, 100
    engine = make_engine(execution_systems={"here": {"class": "Local", "slots": count}})
    engine.execd("start", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    gate = engine.directory / "gate"
    os.mkfifo(gate)
    ids = submit_counted(engine, count, f"read line < {gate}; true")
    until(lambda: len(runs(engine)) == count, f"{count} jobs run at once", timeout=60)
    gate.open("w").close()  # all that wait to open it go on
    nothing_was_lost(engine, ids)
