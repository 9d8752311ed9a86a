"""What only the embedded database has: its file, its indexes, its speed."""

from __future__ import annotations

import os
import pwd
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Code, DBRef, Decimal128, MaxKey, MinKey

from execution_engine.clock import SystemClock
from execution_engine.errors import StoreError, StoreUnavailable
from execution_engine.jobs.status import Status
from execution_engine.store import sqlite_database
from execution_engine.store.job_store import Change, Filter, Query, Work
from execution_engine.store.sqlite import SqliteJobStore
from execution_engine.store.sqlite_schema import CLAIMABLE, NEXT_MOMENT, ON_SYSTEM_HERE, SCHEMAS, VERSION, due_questions
from tests.support.jobs import BUILDING, REQUEST, SUBMIT, a_job, apply, claim, claim_job, document, ended, now, submitted
from tests.support.limits import full_after

S = Status
ALL = [Query(work, "here" if work is Work.SUBMIT else None) for work in Work]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "execd.db"


def opened(path: Path, **options: Any) -> SqliteJobStore:
    store = SqliteJobStore(path, SystemClock(), **options)
    store.boot(create=True)
    return store


@pytest.mark.parametrize(
    "value",
    [
        Decimal128("1.10"),
        MinKey(),
        MaxKey(),
        Code("f()"),
        DBRef("c", 1),
        float("inf"),
        [[1]],
        {"a.b": 1},
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    ids=repr,
)
def test_rare_types_of_value_come_back_as_they_were_stored(path: Path, value: Any) -> None:
    with opened(path) as store:
        (job_id,) = store.insert([a_job(mine=value)])
        found = document(store, job_id)["mine"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [{"$date": "x"}, {"$oid": 5}, {"$numberLong": []}, {"$binary": 1}], ids=repr)
def test_a_field_that_would_be_read_back_as_something_else_is_refused(path: Path, value: Any) -> None:
    with opened(path) as store, pytest.raises(StoreError, match="begins with \\$"):
        store.insert([a_job(mine={"deep": value})])


def test_the_file_and_its_companions_are_for_their_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with opened(tmp_path / "new" / "execd.db") as store:
            store.insert([a_job()])
            modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in (tmp_path / "new").iterdir()}
    finally:
        os.umask(previous)
    assert modes == {"execd.db": 0o600, "execd.db-wal": 0o600, "execd.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_every_commit_is_on_the_disk(path: Path) -> None:
    with opened(path) as store:
        connection = store._file._connected()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


# --- files that are no database of ours


def test_a_file_that_is_no_database_is_refused_and_kept(path: Path) -> None:
    path.write_bytes(b"this is a text, and not a database at all\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite database") as refused:
        opened(path)
    assert not isinstance(refused.value, StoreUnavailable)
    assert path.read_bytes().startswith(b"this is a text")


def test_a_newer_schema_is_refused(path: Path) -> None:
    opened(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer execd"):
        opened(path)


def test_a_database_of_an_older_version_is_brought_up_to_date_with_its_jobs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(sqlite_database.events, "emit", lambda event, **facts: told.append((event, facts)))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{SCHEMAS[0]}; PRAGMA user_version = 1")
        columns = "id, text_id, status, created, lease_token, crashes, crash, priority, engine, app"
        connection.execute(f"INSERT INTO jobs ({columns}) VALUES ('7', '7', 'finished', 0, 1, 0, '', 0, '{{}}', '{{}}')")
        connection.commit()
    with pytest.raises(StoreError, match=rf"older execd .schema 1, this one needs {VERSION}.; `execd restart`"):
        SqliteJobStore(path, SystemClock()).boot()  # an engine of that version may run
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    with opened(path) as store:
        assert store.count() == {"finished": 1}
        assert store.engines.all() == store.journal.select() == []
        assert store.inspection.wrong_indexes() == []
    assert told == [("database.upgrade", {"path": str(path), "old": 1, "new": VERSION})]


def test_the_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        opened(path)


def _use(store: SqliteJobStore) -> None:
    store.boot()
    claim(store)
    store.count()


def test_a_damaged_database_is_told_from_one_that_is_away(path: Path) -> None:
    with opened(path) as store:
        store.insert([a_job(mine="x" * 500) for _ in range(200)])
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 20)
    store = SqliteJobStore(path, SystemClock())
    with pytest.raises(StoreError, match="damaged") as refused:
        _use(store)
    store.close()
    assert not isinstance(refused.value, StoreUnavailable)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=re.escape(str(tmp_path / "file" / "x.db"))):
        opened(tmp_path / "file" / "x.db")
    with pytest.raises(StoreError, match="it is a directory; give a file"):
        opened(tmp_path)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere: for the length of a test, this process may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path, ordinary_user: None) -> None:
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
    with pytest.raises(StoreUnavailable, match="must be allowed"):
        opened(tmp_path / "x.db")


# --- who makes it, and which one it is

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")


def test_who_only_asks_makes_no_database(path: Path) -> None:
    with SqliteJobStore(path, SystemClock()) as store:
        questions = (store.count, store.ping, lambda: store.get("x"), lambda: claim(store), lambda: store.insert([a_job()]))
        for ask in questions:
            with pytest.raises(
                StoreError, match=rf"no database yet: {path}; `execd start` or the first `execd submit`"
            ) as refused:
                ask()
            assert not isinstance(refused.value, StoreUnavailable)
        assert list(path.parent.iterdir()) == []
        opened(path).close()
        assert store.count() == {}


def test_an_empty_file_is_no_database_yet_and_stays_as_it_is_until_it_may_be_made(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="no database yet"):
        SqliteJobStore(path, SystemClock()).boot()
    assert [(found.name, found.stat().st_size) for found in path.parent.iterdir()] == [(path.name, 0)]
    opened(path).close()


def test_a_name_that_looks_like_a_url_with_options_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%41 b.db"
    opened(path).close()
    assert path.stat().st_size


def test_another_file_in_its_place_is_refused_until_the_first_is_back(path: Path) -> None:
    with opened(path) as store:
        store.insert([a_job(_id="first")])
        away = path.rename(path.with_name("away.db"))
        for wrong in ("is gone", "another file than the one in use"):
            for use in (store.count, lambda: claim(store), lambda: store.insert([a_job()]), lambda: store.boot(create=True)):
                with pytest.raises(StoreUnavailable, match=wrong):
                    use()
            assert path.exists() == (wrong != "is gone")
            path.touch()
        away.rename(path)
        assert claim_job(store).id == "first"


def test_a_store_that_is_told_which_database_to_use_uses_no_other(path: Path) -> None:
    opened(path).close()  # writes all into the file itself
    with opened(path) as first:
        path.rename(path.with_name("away.db"))
        for wrong in ("is gone", "another file"):
            with SqliteJobStore(path, SystemClock()) as store:
                store.boot(identity=first.identity)
                with pytest.raises(StoreUnavailable, match=wrong):
                    store.count()
            opened(path).close()
        path.with_name("away.db").rename(path)
        other = SqliteJobStore(path, SystemClock())
        other.boot(identity=first.identity)
        assert other.count() == {}
        other.close()


def test_a_store_that_was_closed_may_be_opened_on_another_file(path: Path) -> None:
    store = opened(path)
    store.insert([a_job()])
    store.close()
    path.rename(path.with_name("away.db"))
    store.boot(create=True)
    assert store.count() == {}
    assert store.due([BUILDING], now()) == set()
    store.close()


@as_root
def test_root_makes_no_database_among_the_files_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1, -1)
    name = pwd.getpwuid(1).pw_name
    with pytest.raises(
        StoreError, match=rf"belongs to user {name}, who could change it; run this as that user: runuser -u {name} -- execd"
    ) as refused:
        opened(tmp_path / "theirs" / "below" / "execd.db")
    assert not isinstance(refused.value, StoreUnavailable)
    assert list((tmp_path / "theirs").iterdir()) == []


@as_root
def test_root_does_not_work_on_the_database_of_another_user(path: Path) -> None:
    opened(path).close()
    os.chown(path, 1, -1)
    with pytest.raises(StoreError, match=f"{path} is not used, because it belongs to user .*: runuser -u"):
        opened(path)


@as_root
def test_a_database_that_another_user_put_into_a_sticky_directory_is_not_used(tmp_path: Path) -> None:
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    with pytest.raises(StoreError, match=rf"others could change {sticky} \(mode 1777\); use a directory of its own"):
        opened(sticky / "execd.db")
    planted = sticky / "below" / "execd.db"
    planted.parent.mkdir()
    opened(planted).close()
    os.chown(planted, 65534, -1)
    with pytest.raises(StoreError, match="it belongs to user"):
        opened(planted)
    planted.unlink()
    os.chown(planted.parent, 65534, -1)
    with pytest.raises(StoreError, match=f"{planted.parent} belongs to user"):
        opened(planted)
    assert not planted.exists()


@as_root
def test_who_may_not_open_it_is_told_whose_it_is(tmp_path: Path, ordinary_user: None) -> None:
    with pytest.raises(StoreUnavailable, match=f"{tmp_path}.* belongs to user root: run this as that user$"):
        opened(tmp_path / "x.db")


# --- faults while it runs


def test_a_database_that_another_process_keeps_locked_is_unavailable(path: Path) -> None:
    with opened(path, busy_timeout=0.1) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.insert([a_job()])
        assert store.due([BUILDING], now()) == set()
        other.execute("ROLLBACK")
        other.close()
        store.insert([a_job()])
        assert claim_job(store)


def test_a_full_disk_makes_it_unavailable_and_changes_nothing(path: Path) -> None:
    with opened(path) as store:
        (job_id,) = store.insert([a_job()])
        before = document(store, job_id)
        used = path.with_name(path.name + "-wal").stat().st_size
        with pytest.raises(StoreUnavailable, match=r"disk|writing failed"), full_after(used):
            store.insert([a_job(mine="x" * 100_000)])
        with pytest.raises(StoreUnavailable), full_after(used):
            claim(store)
        assert document(store, job_id) == before
        assert claim_job(store)


# --- cost


def test_the_questions_of_the_engine_are_answered_by_indexes(path: Path) -> None:
    questions = [f"SELECT * FROM {where} {order} LIMIT 5" for sources in CLAIMABLE.values() for where, order in sources]
    questions += [question for query in ALL for question in due_questions(query)]
    questions += [NEXT_MOMENT, f"SELECT * FROM {ON_SYSTEM_HERE}"]
    questions += [
        "SELECT * FROM jobs WHERE lease_owner = 'x'",
        "SELECT * FROM jobs WHERE id = 'x'",
        "SELECT 1 FROM jobs WHERE text_id >= 'x'",
    ]
    questions += ["SELECT status, count(*) FROM jobs WHERE status IS NOT NULL GROUP BY status"]
    with opened(path) as store:
        for question in questions:
            plan = store._file._connected().execute(f"EXPLAIN QUERY PLAN {question}", {"now": 1, "lane": "here"}).fetchall()
            steps = [step[3] for step in plan]
            assert not [step for step in steps if re.match(r"SCAN jobs(?!.*INDEX)", step)], (question, steps)


def test_waiting_jobs_are_read_in_their_order_without_sorting(path: Path) -> None:
    with opened(path) as store:
        for work in (Work.BUILDING, Work.SUBMIT):
            where, order = CLAIMABLE[work][-1]
            plan = (
                store._file._connected().execute(f"EXPLAIN QUERY PLAN SELECT * FROM {where} {order}", {"lane": "here"}).fetchall()
            )
            assert "TEMP B-TREE" not in str(plan)


def _steps(store: SqliteJobStore) -> int:
    """The virtual machine's instructions, in hundreds, for a round of the engine's questions, one claim, one look by doctor."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    store.insert([a_job()])
    connection = store._file._connected()
    connection.set_progress_handler(tick, 100)
    store.due(ALL, now())
    job = claim_job(store)
    apply(store, job, S.TO_BE_BUILT, due_at=datetime(2999, 1, 1, tzinfo=UTC))
    store.on_system("here")
    store.renew("nobody", now())
    store.release("nobody", now())
    assert list(store.inspection.untold()) == []
    connection.set_progress_handler(None, 100)
    return count


def test_the_engines_work_does_not_depend_on_jobs_that_have_ended(path: Path) -> None:
    with opened(path) as store:
        ended(store)
        before = _steps(store)
        store.insert([a_job(_id=f"old-{number}") for number in range(5000)])
        while claims := claim(store, limit=1000):
            assert not store.apply([Change(one.job, S.ERROR) for one in claims], "boot/1", now())
        assert store.count()["error"] == 5000
        assert _steps(store) <= before + 2


def test_a_look_at_an_unchanged_database_asks_it_nothing_and_still_sees_the_time_pass(path: Path) -> None:
    with opened(path) as store, opened(path) as other:
        store.insert([a_job()])
        held = claim_job(store)
        assert held.lease.until is not None
        assert store.due(ALL, now()) == set()
        asked: list[str] = []
        store._file._connected().set_trace_callback(asked.append)
        assert store.due(ALL, now()) == set()
        assert asked == ["PRAGMA data_version"]
        assert store.due(ALL, held.lease.until) == {BUILDING}
        running = submitted(other)
        other.request([running.id], "kill")
        assert store.due([*ALL, Query(Work.REQUEST, "here")], now()) == {Query(Work.REQUEST, "here")}
        assert store.due([SUBMIT, REQUEST], now()) == set()


@pytest.mark.parametrize("which", ["-wal", "-shm"])
def test_nothing_is_confirmed_once_a_file_of_the_database_is_gone(path: Path, which: str) -> None:
    with opened(path) as store:
        store.insert([a_job()])
        path.with_name(path.name + which).unlink()
        with pytest.raises(StoreUnavailable, match=f"{which} is gone.*execd restart"):
            store.insert([a_job()])
        with pytest.raises(StoreUnavailable, match="is gone"):
            store.count()
        path.with_name(path.name + which).touch()
        with pytest.raises(StoreUnavailable, match="was replaced"):
            store.count()


def test_a_write_is_not_confirmed_whose_file_goes_while_it_is_written(path: Path) -> None:
    def write(store: SqliteJobStore) -> None:
        with store._writing() as connection:
            connection.execute("UPDATE jobs SET priority = 1")
            path.with_name(f"{path.name}-wal").unlink()

    with opened(path) as store, pytest.raises(StoreUnavailable, match="is gone"):
        write(store)


def test_no_new_log_is_begun_beside_a_process_that_has_lost_its_own(path: Path) -> None:
    other = f"""
import sys
from pathlib import Path
from execution_engine.clock import SystemClock
from execution_engine.store.sqlite import SqliteJobStore
store = SqliteJobStore(Path({str(path)!r}), SystemClock())
store.boot(create=True)
store.insert([{{"status": "to be built", "command": ["true"]}}])
print("there", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        path.with_name(f"{path.name}-wal").unlink()
        path.with_name(f"{path.name}-shm").unlink()
        for create in (False, True):
            with pytest.raises(StoreUnavailable, match=f"process {process.pid} uses it"):
                SqliteJobStore(path, SystemClock()).boot(create=create)
    with opened(path) as store:
        assert store.count() == {"to be built": 1}, "what was confirmed was saved"


def test_a_lock_on_a_file_of_the_same_number_on_another_file_system_is_no_use_of_the_database(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path).close()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        locks = path.with_name("locks")
        locks.write_text(f"1: POSIX  ADVISORY  READ {other.pid} ff:ff:{path.stat().st_ino} 1073741826 1073742335\n")
        monkeypatch.setattr(sqlite_database, "_LOCKS", locks)
        with opened(path) as store:
            assert store.count() == {}
        other.communicate(b"\n")


def test_jobs_that_go_on_while_others_are_looked_through_are_all_found_once(path: Path) -> None:
    with opened(path) as store, opened(path) as other:
        ids = store.insert([a_job() for _ in range(1200)])
        claim(other, limit=100)
        found = store.find(Filter(statuses=(S.TO_BE_BUILT, S.BUILDING)))
        seen = [next(found)["_id"]]
        while claim(other, limit=400):
            pass
        seen += [each["_id"] for each in found]
    assert sorted(seen) == sorted(ids)
