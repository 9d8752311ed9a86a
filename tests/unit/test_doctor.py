"""`execd doctor`, against real databases and directories, without an engine."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from execution_engine.building.job_directory import build
from execution_engine.cli import checks, main
from execution_engine.cli.diagnosis import directories, jobs
from execution_engine.cli.diagnosis.clocks import compared
from execution_engine.cli.diagnosis.findings import Finding, number
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import give_up
from execution_engine.clock import SystemClock
from execution_engine.engine import machine
from execution_engine.engine.lane_actor import ASIDE
from execution_engine.jobs.job import Job
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.job_store import Change, JobStore, Query, Work
from execution_engine.store.journal import Entry
from execution_engine.users import name_of
from tests.support.commands import CommandLine

SECOND = timedelta(seconds=1)


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


@pytest.fixture
def store(execd: CommandLine) -> Iterator[JobStore]:
    with execd.client() as client:
        yield client.store


def examined(execd: CommandLine, *options: str, code: int = 0) -> dict[str, Any]:
    return execd.json("doctor", *options, code=code)


def found(report: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """What it says of one thing, unless that is well."""
    return [each for each in report["found"] if each["what"] == what and each["level"] != "ok"]


def built(execd: CommandLine, store: JobStore, lane: str, count: int = 1) -> list[Any]:
    """Jobs that were built by an engine of this lane, and wait to be submitted there."""
    ids = store.insert([{"status": "to be built", "command": ["true"]} for _ in range(count)])
    now = SystemClock().now()
    for claim in store.claim(Query(Work.BUILDING), "gone/building-1", count, now, now + 60 * SECOND):
        assert isinstance(claim.job, Job)
        fields = {"dir": str(build(claim.job, execd.config)), "execution.lane": lane, "execution.system": lane.split("@")[0]}
        assert not store.apply([Change(claim.job, "to be submitted", "", fields)], "test", now)  # type: ignore[arg-type]
    return ids


def age(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a directory be older than a day: its change time cannot be set, so the day is over sooner."""
    monkeypatch.setattr(directories, "_OLD", -1.0)
    assert directory.exists()


def test_a_new_site_is_well_and_only_lacks_its_engine(execd: CommandLine) -> None:
    report = examined(execd)
    assert report["ok"]
    told = [(each["what"], each["level"]) for each in report["found"] if each["level"] != "ok"]
    assert told == [*([("configuration", "warning")] if os.geteuid() == 0 else []), ("engine", "warning")]


def test_nothing_is_made_by_looking(execd: CommandLine) -> None:
    for file in execd.file.parent.glob("execd.db*"):
        file.unlink()
    before = sorted(execd.file.parent.rglob("*"))
    assert examined(execd)["ok"]
    assert sorted(execd.file.parent.rglob("*")) == before


def test_what_is_wrong_is_shown_with_what_to_do_about_it(execd: CommandLine) -> None:
    execd.config.run_dir.chmod(0o755)
    result = execd("doctor")
    assert result.exit_code == 1
    assert "PROBLEM  run_dir mode" in result.stdout
    assert f"chmod go= {execd.config.run_dir}" in result.stdout


def test_a_repair_is_made_when_it_is_wanted_and_only_then(execd: CommandLine) -> None:
    run_dir = execd.config.run_dir
    run_dir.chmod(0o755)
    no = execd("doctor", "--repair", stdin="n\n")
    assert (no.exit_code, run_dir.stat().st_mode & 0o777) == (1, 0o755)
    yes = execd("doctor", "--repair", stdin="y\n")
    assert (yes.exit_code, run_dir.stat().st_mode & 0o777) == (0, 0o700), yes.output
    assert "mode 0700 now" in yes.stdout


@pytest.mark.parametrize("words", [["--yes"], ["--repair", "--json"]])
def test_wrong_usage_is_refused(execd: CommandLine, words: list[str]) -> None:
    assert execd("doctor", *words).exit_code == 2


def test_without_an_answer_nothing_is_repaired(execd: CommandLine) -> None:
    execd.config.run_dir.chmod(0o755)
    result = CliRunner().invoke(main, ["-c", str(execd.file), "doctor", "--repair"], input="")
    assert result.exit_code == 1
    assert execd.config.run_dir.stat().st_mode & 0o777 == 0o755


# --- configuration, database, clocks


def test_a_plug_in_that_does_not_load_is_told_and_the_rest_is_examined(execd: CommandLine) -> None:
    (execd.file.parent / "routing_rules" / "bad.py").write_text("1 / 0\n")
    report = examined(execd, code=1)
    assert "bad.py" in found(report, "configuration")[0]["message"]
    assert {"database", "indexes", "jobs_dir"} <= {each["what"] for each in report["found"]}


def test_a_configuration_without_usable_essentials_ends_with_5(execd: CommandLine) -> None:
    execd.file.write_text(yaml.safe_dump(yaml.safe_load(execd.file.read_text()) | {"jobs_dir": 5}))
    result = execd("doctor")
    assert (result.exit_code, "jobs_dir" in result.stderr) == (5, True)


def test_one_fault_of_the_database_is_told_once(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"status": "to be built", "command": ["true"]}])
    with sqlite3.connect(execd.file.parent / "execd.db") as connection:
        connection.execute("DROP TABLE jobs")
        connection.execute("DROP TABLE engines")
    connection.close()
    messages = [each["message"] for each in found(examined(execd, code=1), "database")]
    assert sorted(message.rpartition("(")[2] for message in messages) == ["no such table: engines)", "no such table: jobs)"]


def test_what_is_known_of_a_system_already_is_not_told_again_as_an_outage(
    execd: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = [checks.Finding("execution system pbs", False, "qstat is not there")]
    monkeypatch.setattr(checks, "examine", lambda *_: iter(looked))
    since = "2026-11-20T10:00:00+00:00"
    outages = [{"what": f"system {name}", "since": since, "error": "no answer"} for name in ("pbs", "sge")]
    monkeypatch.setattr(Patient, "master", lambda _: 1)
    monkeypatch.setattr(Patient, "state", lambda _: {"at": SystemClock().now().isoformat(), "outages": outages})
    report = examined(execd, code=1)
    (system,) = found(report, "execution system pbs")
    assert "execd check" in system["mend"]
    assert [each["what"] for each in report["found"] if each["what"].startswith("outage")] == ["outage of system sge"]
    assert since not in found(report, "outage of system sge")[0]["message"]


def test_a_system_that_is_full_or_slow_is_a_warning(execd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    rests = {"state": "closed", "since": "2026-11-20T10:00:00+00:00", "why": "queue is disabled"}
    systems = {"here": {"lane": "here", "ok": True, "rests": rests, "slow": "qacct takes 45 s"}}
    monkeypatch.setattr(Patient, "master", lambda _: 1)
    monkeypatch.setattr(Patient, "state", lambda _: {"at": SystemClock().now().isoformat(), "systems": systems})
    report = examined(execd)
    assert "it is closed since" in found(report, "submission to here")[0]["message"]
    assert "queue is disabled" in found(report, "submission to here")[0]["message"]
    assert found(report, "answers of here")[0]["message"] == "slow: qacct takes 45 s"


def test_missing_indexes_are_named_and_made(execd: CommandLine) -> None:
    with sqlite3.connect(execd.file.parent / "execd.db") as connection:
        connection.execute("DROP INDEX jobs_timed")
    connection.close()
    assert found(examined(execd, code=1), "indexes")[0]["examples"] == ["jobs_timed is missing"]
    assert "jobs_timed" in found(examined(execd, "--repair", "--yes"), "indexes")[0]["repaired"]
    assert found(examined(execd), "indexes") == []


def test_a_database_that_is_none_is_a_problem_and_the_machine_is_examined_all_the_same(execd: CommandLine) -> None:
    for file in execd.file.parent.glob("execd.db*"):
        file.unlink()
    (execd.file.parent / "execd.db").write_text("not a database, but a text that is long enough to be seen as none" * 20)
    (execd.file.parent / "execd.db").chmod(0o600)
    report = examined(execd, code=1)
    assert "not an SQLite database" in found(report, "database")[0]["message"]
    assert "clock of jobs_dir" in {each["what"] for each in report["found"]}


@pytest.mark.parametrize(
    ("seconds", "level"), [(0.5, "ok"), (-5, "warning"), (5, "warning"), (25, "PROBLEM"), (-3600, "PROBLEM")]
)
def test_a_clock_that_differs_is_a_problem_when_leases_would_suffer(seconds: float, level: str) -> None:
    now = SystemClock().now()
    assert compared("clock", now + seconds * SECOND, now, now, lease=60.0).level == level


def test_an_answer_that_took_long_is_no_difference_of_clocks() -> None:
    now = SystemClock().now()
    assert compared("clock", now + 5 * SECOND, now, now + 10 * SECOND, lease=60.0).level == "ok"


# --- files


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")
def test_files_of_several_users_are_a_problem_and_nobody_is_told_to_take_what_is_anothers(execd: CommandLine) -> None:
    log = execd.config.log.file
    log.touch()
    os.chown(log, 65534, 65534)
    (owner,) = found(examined(execd, code=1), "owner")
    assert f"{log} belongs to {name_of(65534)}" in owner["message"]
    assert f"runuser -u {name_of(65534)}" in owner["mend"]
    assert "chown" not in owner["mend"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")
def test_what_one_start_as_root_left_is_for_root_to_give_back(execd: CommandLine) -> None:
    execd.config.log.file.touch()
    for path in (execd.config.run_dir, execd.config.jobs_dir, execd.config.database.file):
        assert path is not None
        os.chown(path, 1, 1)
    (owner,) = found(examined(execd, code=1), "owner")
    assert owner["mend"] == f"as root: chown {name_of(1)} {execd.config.log.file}"


def test_what_dead_processes_left_half_written_in_the_run_directory_is_removed(execd: CommandLine) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left, alive = (execd.config.run_dir / f".state.json.{pid}" for pid in (child.pid, os.getpid()))
    for file in (left, alive):
        file.touch()
    assert found(examined(execd, "--repair", "--yes"), "run_dir")[0]["repaired"] == "1 file removed"
    assert (left.exists(), alive.exists()) == (False, True)


def test_a_state_that_cannot_be_read_is_told(execd: CommandLine) -> None:
    (execd.config.run_dir / "state.json").write_text("{")
    assert "cannot be read" in found(examined(execd, code=1), "run_dir state.json")[0]["message"]


# --- jobs


def test_a_lease_that_nobody_took_up_is_freed(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"status": "to be built", "command": ["true"]}])
    long_ago = SystemClock().now() - 600 * SECOND
    store.claim(Query(Work.BUILDING), "gone/building-1", 1, SystemClock().now(), long_ago)
    report = examined(execd, "--repair", "--yes")
    assert "held by gone/building-1" in found(report, "leases")[0]["message"]
    assert found(examined(execd), "leases") == []
    assert not store.release("gone/*", SystemClock().now())


def stuck(execd: CommandLine, store: JobStore, owner: str, count: int = 1) -> list[Finding]:
    """What is found when this owner's leases ended long ago."""
    store.insert([{"status": "to be built", "command": ["true"]} for _ in range(count)])
    now = SystemClock().now()
    store.claim(Query(Work.BUILDING), owner, count, now, now - 600 * SECOND)
    findings = list(jobs.unfinished(Patient(execd.config, None, SystemClock()), store))
    return [finding for finding in findings if finding.what == "leases"]


def test_a_lease_that_is_renewed_after_the_look_is_left_alone(execd: CommandLine, store: JobStore) -> None:
    (leases,) = stuck(execd, store, "paused/building-1", count=3)
    assert leases.repair is not None
    assert store.renew("paused/building-1", SystemClock().now() + 60 * SECOND) == 3
    assert leases.repair.carry_out() == "0 jobs of paused/building-1 freed, 3 left: held again, or not to be read"
    assert store.renew("paused/building-1", SystemClock().now() + 60 * SECOND) == 3


def test_what_an_engine_of_the_registry_holds_is_told_and_left_to_it(execd: CommandLine, store: JobStore) -> None:
    store.engines.sign_in(an_engine())
    (leases,) = stuck(execd, store, "other-1/building-1")
    assert leases.repair is None


def test_a_lease_that_holds_is_left_alone(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"status": "to be built", "command": ["true"]}])
    now = SystemClock().now()
    store.claim(Query(Work.BUILDING), "living/building-1", 1, now, now + 60 * SECOND)
    assert found(examined(execd), "leases") == []


def test_jobs_that_wait_for_a_system_that_is_gone_are_routed_anew_and_those_that_it_has_are_not(
    execd: CommandLine, store: JobStore
) -> None:
    ids = built(execd, store, "spare@elsewhere", 3)
    now = SystemClock().now()
    (submitting,) = store.claim(Query(Work.SUBMIT, "spare@elsewhere"), "gone/submit-1", 1, now, now)
    report = examined(execd, code=1)
    held, waiting = found(report, "lane")
    assert ("1 job that spare@elsewhere has" in held["message"], held["examples"]) == (True, [str(submitting.job.id)])
    assert ("2 jobs that wait for spare@elsewhere" in waiting["message"], len(waiting["examples"])) == (True, 2)
    held, waiting = found(examined(execd, "--repair", "--yes", code=1), "lane")
    assert (held["repaired"], waiting["repaired"]) == (None, "2 jobs to be built anew")
    statuses = store.statuses(ids)
    assert sorted(statuses.values()) == ["submitting", "to be built", "to be built"]
    assert statuses[submitting.job.id] == "submitting"
    assert all((store.get(job_id) or {})["lease"]["owner"] is None for job_id in ids if job_id != submitting.job.id)


def test_a_job_that_is_said_to_run_and_that_no_system_was_given_is_named(execd: CommandLine, store: JobStore) -> None:
    whole = {"lane": "here", "system": "here", "name": "n", "job_no": "1"}
    ids = store.insert(
        [
            {"status": "running", "command": ["true"]},
            {"status": "running", "command": ["true"], "execution": whole},
            {"status": "pending", "command": ["true"], "execution": {**whole, "job_no": None}, "dir": "/nowhere"},
            {"status": "hold", "command": ["true"]},
        ]
    )
    (finding,) = found(examined(execd, code=1), "documents")
    assert sorted(finding["examples"]) == sorted(str(each) for each in ids[:3])


def test_a_job_that_was_set_aside_is_named(execd: CommandLine, store: JobStore) -> None:
    execution = {"lane": "here", "system": "here", "name": "n", "job_no": "1"}
    lease = {"owner": None, "token": 5, "until": None, "crashes": 4, "crash": f"{ASIDE}ended by signal SIGSEGV"}
    (job_id,) = store.insert(
        [{"status": "running", "command": ["true"], "execution": execution, "dir": "/nowhere", "lease": lease, "schema": 1}]
    )
    (finding,) = found(examined(execd, code=1), "execution system")
    assert (finding["examples"], "set aside" in finding["message"]) == ([str(job_id)], True)


def test_jobs_of_a_lane_that_will_not_come_back_are_given_up_where_a_person_names_it(execd: CommandLine, store: JobStore) -> None:
    waits, *ids = built(execd, store, "here@gone", 3)
    store.claim(Query(Work.SUBMIT, "here@gone"), "gone/submit-1", 1, SystemClock().now(), SystemClock().now())
    claimed = store.claim(Query(Work.SUBMIT, "here@gone"), "gone/submit-2", 9, SystemClock().now(), SystemClock().now())
    store.apply([Change(each.job, "running") for each in claimed[1:]], "test", SystemClock().now())  # type: ignore[arg-type]
    (other,) = built(execd, store, "here@rebooting", 1)
    store.claim(Query(Work.SUBMIT, "here@rebooting"), "off/submit-1", 1, SystemClock().now(), SystemClock().now())
    lost, held = found(examined(execd, code=1), "lane")
    assert "--give-up here@gone" in lost["mend"]
    lost, held = found(examined(execd, "--repair", "--yes", "--give-up", "here@gone", code=1), "lane")
    assert (lost["repaired"], held["repaired"]) == ("3 jobs of here@gone given up", None)
    for job_id in (waits, *ids):
        job = store.get(job_id) or {}
        assert (job["status"], job["exit"]["reason"], job["lease"]["owner"]) == ("error", "node lost", None)
        assert "here@gone will not come back" in job["error"]["message"]
    assert store.statuses([other]) == {other: "submitting"}


def test_a_lane_that_is_served_again_is_not_given_up(execd: CommandLine, store: JobStore) -> None:
    (job_id,) = built(execd, store, "here@back", 1)
    store.claim(Query(Work.SUBMIT, "here@back"), "off/submit-1", 1, SystemClock().now(), SystemClock().now())
    patient = Patient(execd.config, None, SystemClock())
    store.engines.sign_in(an_engine(lanes=("here@back",)))
    assert "served again" in give_up(patient, "here@back", [job_id])
    assert store.statuses([job_id]) == {job_id: "submitting"}


def test_a_lane_that_another_engine_serves_is_nobodys_business_here(execd: CommandLine, store: JobStore) -> None:
    built(execd, store, "spare@elsewhere")
    store.engines.sign_in(an_engine(lanes=("spare@elsewhere",)))
    assert found(examined(execd), "lane") == []


def an_engine(**fields: Any) -> EngineRecord:
    now = SystemClock().now()
    record = {"id": "other-1", "host": "other", "kernel": "", "pid": 1, "run_dir": "/run/x"}
    return EngineRecord(**{**record, "started": now, "lease": 1.0, "lanes": (), "beats": 7, "beat_at": now, **fields})


def test_a_silent_engine_is_watched_and_its_record_removed_with_its_leases(
    execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SystemClock().now()
    (job_id,) = store.insert([{"status": "to be built", "command": ["true"]}])
    store.claim(Query(Work.BUILDING), "other-1/building-1", 1, now, now + 60 * SECOND)
    store.engines.sign_in(an_engine(beat_at=now - 100 * SECOND))
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    (silent,) = found(examined(execd, "--repair", "--yes"), "registry")
    assert "1 job freed" in silent["repaired"]
    assert waited == [6.0]
    assert store.engines.all() == []
    assert (store.get(job_id) or {})["lease"]["owner"] is None


def test_a_silent_engine_that_beats_while_it_is_watched_keeps_its_record(
    execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = an_engine(beat_at=SystemClock().now() - 100 * SECOND)
    store.engines.sign_in(silent)
    monkeypatch.setattr(time, "sleep", lambda _seconds: store.engines.beat(an_engine(beats=8)))
    assert "nothing was done" in found(examined(execd, "--repair", "--yes"), "registry")[0]["repaired"]
    assert [engine.beats for engine in store.engines.all()] == [8]


def test_a_death_is_told_however_much_else_happened(execd: CommandLine, store: JobStore) -> None:
    at = SystemClock().now()
    events = ["monitor.died", *["job.copy"] * 1100]
    store.journal.append([Entry(at, event, "here-1", (), {}, f"{number:04}") for number, event in enumerate(events)])
    (died,) = found(examined(execd), "processes of the engine")
    assert "the monitor died (1 time)" in died["message"]


def test_a_job_not_submitted_yet_whose_directory_is_gone_is_built_anew(execd: CommandLine, store: JobStore) -> None:
    lost, _kept = built(execd, store, f"here@{machine.place()}", 2)
    subprocess.run(["rm", "-r", (store.get(lost) or {})["dir"]], check=True)
    (directory,) = found(examined(execd, "--repair", "--yes"), "directories")
    assert directory["examples"] == [str(lost)]
    assert store.statuses([lost]) == {lost: "to be built"}


def test_an_empty_jobs_dir_is_taken_for_one_that_is_not_mounted_and_nothing_is_repaired(
    execd: CommandLine, store: JobStore
) -> None:
    ids = built(execd, store, f"here@{machine.place()}", 2)
    subprocess.run(["rm", "-r", execd.config.jobs_dir / "default"], check=True)
    report = examined(execd, "--repair", "--yes", code=1)
    assert "mounted" in found(report, "jobs_dir")[0]["mend"]
    assert set(store.statuses(ids).values()) == {"to be submitted"}


def test_a_job_that_nobody_can_follow_is_told(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"_id": "odd", "status": "running", "command": ["true"], "execution": "nonsense"}])
    assert found(examined(execd, code=1), "documents")[0]["examples"] == ["odd"]


def test_numbers_of_things_are_english() -> None:
    assert [
        number(count, what) for count, what in ((1, "index"), (11, "index"), (2, "process"), (2, "directory"), (2, "job"))
    ] == [
        "1 index",
        "11 indexes",
        "2 processes",
        "2 directories",
        "2 jobs",
    ]


def test_nothing_is_tried_again_where_no_engine_runs(execd: CommandLine, store: JobStore) -> None:
    execd.config.jobs_dir.rmdir()
    execd.config.jobs_dir.write_text("no directory")
    (told,) = found(examined(execd, code=1), "jobs_dir")
    assert "`execd check` shows whether it answers" in told["mend"]
    assert "tries again" not in told["mend"]


def test_a_warning_of_check_is_not_called_ok(execd: CommandLine) -> None:
    text = yaml.safe_load(execd.file.read_text()) | {"rules_dirs": ["nowhere"]}
    execd.file.write_text(yaml.safe_dump(text))
    (line,) = (line for line in execd("check").stdout.splitlines() if "nothing is loaded from it" in line)
    assert line.split()[:2] == ["warning", "warning"]


def test_documents_without_a_status_are_told(execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.insert([{"command": ["true"]}, {"command": ["true"], "status": None}])
    (told,) = found(examined(execd), "status")
    assert (told["level"], told["message"]) == ("warning", "2 documents without a status: nobody touches them")
    assert "set it to 'to be built'" in told["mend"]
    monkeypatch.setattr(jobs, "_MOST_COUNTED", 2)
    (told,) = found(examined(execd), "status")
    assert told["message"].startswith("at least 2 documents without a status")


def test_a_status_that_is_none_is_told_as_a_misspelling(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"status": "to be biult", "command": ["true"]}])
    assert "'to be biult'" in found(examined(execd), "status")[0]["message"]


def test_an_owner_who_cannot_be_told_again_and_again_is_a_problem(execd: CommandLine, store: JobStore) -> None:
    due = SystemClock().now() + 600 * SECOND
    delivery = {"mail": {"at": None, "attempts": 4, "error": "connection refused"}}
    store.insert([{"_id": "untold", "status": "error", "command": ["true"], "notified": delivery, "due_at": due}])
    (failing,) = found(examined(execd, code=1), "notification")
    assert ("connection refused" in failing["message"], failing["examples"]) == (True, ["untold"])


# --- directories and processes that belong to nobody


def forget(execd: CommandLine, *ids: Any) -> None:
    """Takes jobs out of the database, as an older backup would."""
    with sqlite3.connect(execd.file.parent / "execd.db") as connection:
        connection.executemany("DELETE FROM jobs WHERE text_id = ?", [(str(job_id),) for job_id in ids])
    connection.close()


def test_an_orphaned_directory_is_removed_when_that_is_wanted(
    execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, *kept = built(execd, store, f"here@{machine.place()}", 3)
    places = {job_id: Path((store.get(job_id) or {})["dir"]) for job_id in (gone, *kept)}
    not_ours = [places[gone].parent / "something", execd.config.jobs_dir / "notes"]
    for directory in not_ours:
        directory.mkdir()
    forget(execd, gone)
    assert found(examined(execd), "orphans") == [], "it is younger than a day"
    age(places[gone], monkeypatch)
    assert found(examined(execd), "orphans")[0]["examples"] == [str(places[gone])]
    assert places[gone].exists()
    assert found(examined(execd, "--repair", "--yes"), "orphans")[0]["repaired"] == "1 directory removed"
    assert not places[gone].exists()
    assert all(directory.exists() for directory in (*not_ours, *(places[job_id] for job_id in kept)))


def test_the_names_of_many_jobs_take_little_memory_at_any_moment() -> None:
    tracemalloc.start()
    try:
        names = directories.Names(f"job-{number}" for number in range(50_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / 50_000 < 12
    assert all(f"job-{number}" in names for number in range(50_000))
    assert "job-50000" not in names


def test_with_another_database_no_directory_is_offered_for_removal(
    execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = built(execd, store, f"here@{machine.place()}", 3)
    first = Path((store.get(ids[0]) or {})["dir"])
    forget(execd, *ids[:2])
    age(first, monkeypatch)
    (orphans,) = found(examined(execd, "--repair", "--yes"), "orphans")
    assert ("right database" in orphans["mend"], orphans["repaired"], first.exists()) == (True, None, True)


def test_with_an_empty_database_even_new_directories_are_told_of(execd: CommandLine, store: JobStore) -> None:
    forget(execd, *built(execd, store, f"here@{machine.place()}", 3))
    (orphans,) = found(examined(execd), "orphans")
    assert orphans["message"] == "3 of 3 directories belong to no job in this database"
    assert "new one in its place" in orphans["mend"]


def test_a_directory_whose_command_may_still_run_is_not_offered_for_removal(
    execd: CommandLine, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = built(execd, store, f"here@{machine.place()}", 2)
    place = Path((store.get(ids[0]) or {})["dir"])
    (place / ".execd" / "started").touch()
    forget(execd, ids[0])
    age(place, monkeypatch)
    (orphans,) = found(examined(execd, "--repair", "--yes"), "orphans")
    assert ("may run" in orphans["mend"], place.exists()) == (True, True)


def test_a_process_that_a_job_left_behind_is_named(execd: CommandLine, store: JobStore) -> None:
    store.insert([{"_id": f"job-{state}", "status": state, "command": ["true"]} for state in ("finished", "running")])
    environment = {"EXECD_JOB_DIR": f"{execd.config.jobs_dir}/default/00/x"}
    children = [
        subprocess.Popen(["sleep", "60"], env={**environment, "EXECD_JOB_ID": job})
        for job in ("job-finished", "job-running", "?")
    ]
    try:
        report = examined(execd, code=1)
    finally:
        for child in children:
            child.kill()
            child.wait()
    (left,) = found(report, "processes")
    assert left["examples"] == [str(children[0].pid)]


def test_a_process_of_an_attempt_that_is_over_is_named_and_one_of_another_job_is_not(execd: CommandLine, store: JobStore) -> None:
    jobs = {"1234": "finished", "again": "running"}
    store.insert([{"_id": job_id, "status": state, "command": ["true"], "attempt": 2} for job_id, state in jobs.items()])
    here = {"EXECD_JOB_DIR": f"{execd.config.jobs_dir}/default/00/x"}
    sleep = ["sleep", "60"]
    with ExitStack() as children:
        for job, attempt in (("again", "1"), ("again", "2"), ("again", "3"), ("12", "2"), ("1234", "3")):
            child = subprocess.Popen(sleep, env={**here, "EXECD_JOB_ID": job, "EXECD_ATTEMPT": attempt})
            children.callback(child.wait)
            children.callback(child.kill)
        left = found(examined(execd, code=1), "processes")
    assert [each["message"] for each in left] == ["1 process of job again, which is at attempt 2, this is attempt 1"]


def test_a_person_at_a_pipe_gets_lines_and_a_program_json(execd: CommandLine) -> None:
    result: Result = execd("doctor")
    assert result.stdout.startswith("STATE")
    assert json.loads(execd("doctor", "--json").stdout)["ok"] is True


def test_a_log_of_the_database_that_has_grown_is_told(execd: CommandLine) -> None:
    database = execd.file.parent / "execd.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT count(*) FROM jobs").fetchone()
        assert found(examined(execd), "write-ahead log") == []
        os.truncate(f"{database}-wal", 300 << 20)
        (told,) = found(examined(execd), "write-ahead log")
    assert "has grown to 300M" in told["message"]
