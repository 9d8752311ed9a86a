"""Commands against a real database, without an engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from execution_engine.cli import main
from execution_engine.cli.checks import shortage
from execution_engine.cli.engine import print_status
from execution_engine.jobs.status import Status
from tests.support.commands import CommandLine, move_all


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


def configure(execd: CommandLine, **settings: object) -> None:
    execd.file.write_text(yaml.safe_dump(yaml.safe_load(execd.file.read_text()) | settings))


# --- the program


def test_help_and_version_load_nothing_heavy():
    heavy = "{'pydantic', 'pymongo', 'rich', 'yaml'}"
    code = f"import sys; from execution_engine.cli import main; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_checkout_runs_without_installation(tmp_path: Path):
    program = Path(__file__).parents[2] / "bin" / "execd"
    done = subprocess.run([sys.executable, program, "--version"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert re.fullmatch(r"execd \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_a_help_text(name: str):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_EXECD_COMPLETE" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["submit"],
        ["submit", "--"],
        ["submit", "a.yaml", "--", "true"],
        ["submit", "--env", "NOVALUE", "--", "true"],
        ["submit", "--cores", "0", "--", "true"],
        ["jobs", "--status", "nonsense"],
        ["jobs", "--since", "long ago"],
        ["jobs", "--watch"],
        ["jobs", "--watch", "--json"],
        ["jobs", "--json", "--jsonl"],
        ["jobs", "--owner", ""],
        ["jobs", "--since", ""],
        ["kill", "--owner", "", "--yes"],
        ["kill", "--tag", "", "--yes"],
        ["notify", "--project", "", "--yes"],
        ["submit", "--owner", "", "--", "true"],
        ["wait"],
        ["wait", "x", "--timeout", "soon"],
        ["simulate", "--interval", "5..1"],
        ["simulate", "--interval", "x"],
        ["simulate", "--batch", "0..0.5"],
        ["simulate", "--batch", "0"],
        ["simulate", "--batch", "0..1e400"],
        ["simulate", "--jobs", "0"],
        ["completion", "csh"],
    ],
)
def test_wrong_usage_ends_with_2(execd: CommandLine, words: list[str]):
    result = execd(*words)
    assert result.exit_code == 2
    assert "Error" in result.stderr


# --- setting up


def test_init_makes_a_site_that_check_finds_good_and_leaves_without_a_database(execd: CommandLine):
    for file in execd.file.parent.glob("execd.db*"):
        file.unlink()
    found = execd.json("check")
    assert found["ok"]
    assert found["problems"] == []
    assert {"configuration", "database", "execution system here", "jobs_dir", "run_dir"} <= {
        row["what"] for row in found["found"]
    }
    assert not (execd.file.parent / "execd.db").exists()


def test_only_a_submission_makes_the_database(execd: CommandLine):
    database = execd.file.parent / "execd.db"
    database.unlink()
    for words in (("jobs",), ("show", "x"), ("kill", "x"), ("explain", "x"), ("wait", "x")):
        result = execd(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"there is no database yet: {database}; `execd start` or the first `execd submit` makes it" in result.stderr
        assert "if there was one, put that back" in result.stderr
    execd("status")
    assert not database.exists()
    assert execd("submit", "--", "true").exit_code == 0
    assert execd.json("jobs")


def test_init_names_the_commands_that_come_next(tmp_path: Path):
    result = CliRunner().invoke(main, ["init", str(tmp_path / "a b")])
    assert [line.split()[-1] for line in result.output.splitlines()[-3:]] == ["check", "start", "hello"]
    assert f"'{tmp_path}/a b/execd.yaml'" in result.output


def test_init_overwrites_nothing(execd: CommandLine):
    execd.file.write_text("mine")
    result = CliRunner().invoke(main, ["init", str(execd.file.parent)])
    assert result.exit_code == 1
    assert "is there already" in result.stderr
    assert execd.file.read_text() == "mine"


def test_init_where_nothing_can_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "below")])
    assert result.exit_code == 1
    assert result.stderr.startswith("execd: ")


@pytest.mark.parametrize(
    "command", [["check"], ["start"], ["stop"], ["status"], ["jobs"], ["submit", "--", "true"], ["database-url"]]
)
def test_a_bad_configuration_ends_every_command_with_5_and_names_all_problems(execd: CommandLine, command: list[str]):
    configure(execd, nonsense=1, jobs_dir=5)
    result = execd(*command)
    assert result.exit_code == 5
    assert "nonsense" in result.stderr
    assert "jobs_dir" in result.stderr


@pytest.mark.parametrize(
    ("command", "code"), [(["jobs"], 0), (["status"], 3), (["stop"], 3), (["submit", "--", "true"], 0), (["database-url"], 0)]
)
def test_a_mistake_elsewhere_in_the_configuration_leaves_what_needs_the_database_and_the_engine(
    execd: CommandLine, command: list[str], code: int
):
    submit(execd, "--", "true")
    configure(execd, zzz=1, routes=[{"name": "a", "execution_system": "nowhere"}])
    result = execd(*command)
    assert result.exit_code == code, result.output
    for words in ("zzz: is not a known key", "no execution system nowhere", "warning: the configuration is bad"):
        assert words in result.stderr
    for strict in (["start"], ["restart"], ["reload"], ["check"]):
        assert execd(*strict).exit_code == 5


def test_a_configuration_that_is_not_there_ends_with_5(tmp_path: Path):
    result = CliRunner().invoke(main, ["-c", str(tmp_path / "none.yaml"), "jobs"])
    assert result.exit_code == 5
    assert "none.yaml" in result.stderr


def test_check_tells_the_problems_of_a_bad_configuration_as_json(execd: CommandLine):
    configure(execd, routes=[{"name": "a", "execution_system": "nowhere"}], nonsense=1)
    found = execd.json("check", code=5)
    assert not found["ok"]
    assert len(found["problems"]) == 2


def test_check_finds_a_directory_that_cannot_be_used_and_a_database_that_does_not_answer(execd: CommandLine):
    (execd.file.parent / "file").touch()
    configure(execd, jobs_dir="file/jobs", database={"url": "mongodb://u:secret@127.0.0.1:9/", "timeout": "200ms"})
    result = execd("check")
    assert result.exit_code == 1
    assert result.stderr.count("jobs_dir: ") == 1
    assert "jobs_dir: " not in result.stdout
    for line in result.stderr.splitlines():
        assert (result.stdout + result.stderr).count(line.rpartition(": ")[2]) == 1
    assert "database: " in result.stderr
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"database": {"url": f"sqlite:///{'x' * 300}/execd.db"}}, "database"), ({"jobs_dir": f"{'x' * 300}/jobs"}, "jobs_dir")],
)
def test_check_goes_on_when_nobody_can_look_at_a_directory(execd: CommandLine, settings: dict[str, object], what: str):
    configure(execd, **settings)
    found = {row["what"]: row for row in execd.json("check", code=1)["found"]}
    assert "too long" in found[what]["message"]
    assert [row["what"] for row in found.values() if not row["ok"]] == [what]
    assert found["run_dir"]["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="to others /proc says at once that nobody writes there: run bin/test as root")
@pytest.mark.parametrize(
    ("settings", "what", "message"),
    [
        ({"run_dir": "/proc/x"}, "run_dir", "/proc cannot be written by root: No such file or directory"),
        ({"jobs_dir": "/proc/x/jobs"}, "jobs_dir", "/proc cannot be written by root: No such file or directory"),
        ({"log": {"file": "/proc/x/log"}}, "log directory", "/proc cannot be written by root: No such file or directory"),
        ({"log": {"file": "/dev/full"}}, "log", "/dev/full is a device; give a file"),
        ({"log": {"file": "/dev"}}, "log", "/dev is a directory; give a file"),
    ],
)
def test_check_tries_what_the_start_needs(execd: CommandLine, settings: dict[str, object], what: str, message: str):
    configure(execd, **settings)
    assert [(row["what"], row["message"]) for row in execd.json("check", code=1)["found"] if not row["ok"]] == [(what, message)]


def test_check_leaves_nothing_behind_and_takes_a_log_to_null(execd: CommandLine):
    configure(execd, log={"file": "/dev/null"})
    before = sorted(execd.file.parent.rglob("*"))
    assert execd.json("check")["problems"] == []
    assert sorted(execd.file.parent.rglob("*")) == before


def space(free: int, size: int) -> os.statvfs_result:
    """A file system with so many bytes."""
    return os.statvfs_result((4096, 1, size, free, free, 0, 0, 0, 0, 255))


def test_check_finds_directories_that_are_not_there_yet_as_good_as_the_start_does(execd: CommandLine):
    configure(execd, run_dir="not/there/run", jobs_dir="not/here/either")
    found = execd.json("check")
    assert (found["ok"], found["problems"]) == (True, [])
    assert not (execd.file.parent / "not").exists()


def test_a_file_system_that_is_almost_full_is_a_problem():
    gigabyte = 1 << 30
    assert shortage(space(gigabyte, 200 * gigabyte)) == (
        "only 1G of 200G are free on its file system; make room, or move it to another"
    )
    assert shortage(space(9 << 20, 100 << 20)) is not None
    assert shortage(space(3 * gigabyte, 200 * gigabyte)) is None
    assert shortage(space(0, 0)) is None


def test_the_url_of_the_database_is_shown_without_its_password_unless_asked(execd: CommandLine):
    configure(execd, database={"url": "mongodb://user:secret@localhost/?tls=true", "name": "jobs"})
    assert "secret" not in execd("database-url").output
    assert execd("database-url", "--show-secrets").output == "mongodb://user:secret@localhost/?tls=true\n"
    assert execd.json("database-url")["name"] == "jobs"


def test_a_database_that_is_away_ends_with_1_and_a_message(execd: CommandLine):
    configure(execd, database={"url": "mongodb://user:secret@127.0.0.1:9/", "timeout": "200ms"})
    result = execd("jobs")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.stderr
    assert "secret" not in result.stderr


# --- the engine, when there is none


def test_what_needs_an_engine_ends_with_3_when_there_is_none(execd: CommandLine):
    for command in ("stop", "reload"):
        result = execd(command)
        assert result.exit_code == 3, result.output
        assert result.stderr.startswith("execd: ")


def test_status_counts_the_jobs_even_when_no_engine_runs(execd: CommandLine):
    execd("submit", "--", "true")
    assert execd.json("status", code=3) == {"running": False, "jobs": {"to be built": 1}, "unserved": {}, "other_engines": []}
    result = execd("status")
    assert result.exit_code == 3
    assert "not running" in result.output
    assert re.search(r"to be built +1", result.output)


def test_status_says_when_its_state_is_old_and_shows_only_processes_that_are_there(capsys: pytest.CaptureFixture[str]):
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    actors = [{"pid": 0, "title": "to come"}, {"pid": 7, "title": "builder"}]
    report = {"running": True, "pid": 5, "actors": actors, "jobs": {}, "unserved": {}, "other_engines": []}
    print_status(report | {"at": (now - timedelta(seconds=5)).isoformat()}, now)
    shown = capsys.readouterr().out
    assert "old" not in shown
    assert "builder" in shown
    assert "to come" not in shown
    print_status(report | {"at": (now - timedelta(seconds=40)).isoformat()}, now)
    assert "the state is 40 s old" in capsys.readouterr().out
    print_status(report, now)
    assert "has not told its state yet" in capsys.readouterr().out


# --- looking at jobs


def submit(execd: CommandLine, *words: str) -> str:
    result = execd("submit", *words)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_jobs_prints_a_line_for_each_job_the_newest_first(execd: CommandLine):
    first, second = (submit(execd, "--name", name, "--", "true") for name in ("one", "two"))
    header, *lines = execd("jobs").stdout.splitlines()
    assert header.split()[:3] == ["ID", "NAME", "STATUS"]
    assert [line.split()[0] for line in lines] == [second, first]


def test_jobs_as_json_are_documents_with_ids_and_dates_as_text(execd: CommandLine):
    job_id = submit(execd, "--not-before", "+1h", "--", "true")
    (document,) = execd.json("jobs")
    assert document["_id"] == job_id
    assert document["command"] == ["true"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["not_before"])


def test_jobs_are_selected_by_each_condition(execd: CommandLine):
    one = submit(execd, "--owner", "ann", "--project", "p", "--tag", "t", "--", "true")
    with execd.client() as client:
        move_all(client.store, Status.RUNNING)
    two = submit(execd, "--owner", "bob", "--", "true")

    def ids(*words: str) -> list[str]:
        return [job["_id"] for job in execd.json("jobs", *words)]

    for words in (["--owner", "ann"], ["--project", "p"], ["--tag", "t"], ["--status", "running"], ["--system", "here"]):
        assert ids(*words) == [one], words
    assert ids("--since", "1h") == ids("--status", "running", "--status", "to be built") == [two, one]
    assert ids("--since", "2999-01-01") == []
    assert ids("--limit", "1") == [two]


def test_names_of_jobs_cannot_command_the_terminal(execd: CommandLine):
    job = submit(execd, "--name", "\x1b]0;owned\x07[bold]\nsecond line", "--owner", "\x9b2J", "--", "printf", "\x1b[2J")
    for command in (["jobs"], ["show", job], ["explain", job]):
        shown = execd(*command).output
        assert "\x1b" not in shown
        assert "\x9b" not in shown
        assert "\x07" not in shown
    assert "[bold]" in execd("jobs").output


def test_a_long_id_does_not_widen_the_table_for_all(execd: CommandLine):
    with execd.client() as client:
        client.submit([{"_id": "x" * 3000, "command": "true"}, {"_id": "y" * 40, "command": "true"}])
    shown = execd("jobs").stdout
    assert max(map(len, shown.splitlines())) < 200
    assert "x" * 39 + "…" in shown
    assert "y" * 40 in shown
    assert execd.json("show", "x" * 39)["_id"] == "x" * 3000


def test_a_job_is_named_by_the_beginning_of_its_id(execd: CommandLine):
    with execd.client() as client:
        client.submit([{"_id": name, "command": "true"} for name in ("apple", "apricot", "pear")])
    assert execd.json("show", "pe")["_id"] == "pear"
    for wrong in ("ap", "plum"):
        result = execd("show", wrong)
        assert result.exit_code == 1
        assert wrong in result.stderr
    assert "apple" in execd("show", "ap").stderr


def test_show_tells_all_about_a_job(execd: CommandLine):
    job = submit(execd, "--name", "n", "--env", "A=b c", "--memory", "2G", "--tag", "t", "--", "echo", "a b")
    with execd.client() as client:
        move_all(client.store, Status.FINISHED, exit={"code": 0}, results=[{"path": "out.txt", "size": 12}])
    shown = execd("show", job).output
    for words in ("echo 'a b'", "A=b c", "memory=2G", "finished", "exit code 0", "out.txt", "History", "building"):
        assert words in shown


@pytest.mark.parametrize(
    ("ending", "word"),
    [
        ({"code": 0, "signal": None, "reason": None}, "0"),
        ({"code": 3, "signal": None, "reason": "exit code"}, "3"),
        ({"code": 139, "signal": "SIGSEGV", "reason": "signal"}, "SIGSEGV"),
        ({"code": 143, "signal": "SIGTERM", "reason": "walltime"}, "walltime"),
    ],
)
def test_the_table_tells_in_a_word_how_a_job_ended(execd: CommandLine, ending: dict[str, object], word: str):
    submit(execd, "--", "true")
    with execd.client() as client:
        move_all(client.store, Status.ERROR, exit=ending)
    assert execd("jobs").stdout.splitlines()[1].split()[-1] == word


def test_a_document_of_wrong_types_is_shown(execd: CommandLine):
    junk = {
        "_id": "junk",
        "status": 5,
        "command": 7,
        "execution": "x",
        "times": "y",
        "results": 3,
        "usage": {"wall": "z", "memory": []},
    }
    submit(execd, "--", "true")
    with execd.client() as client:
        client.store.insert([junk | {"usage": {"wall": "z", "memory": []}, "resources": 9, "history": [1]}])
    for command in ("show", "explain"):
        assert execd(command, "junk").exit_code == 0
        assert execd.json(command, "junk")
    assert execd("jobs").exit_code == 0


def test_explain_tells_why_a_job_waits(execd: CommandLine):
    job = submit(execd, "--", "true")
    facts = execd.json("explain", job)
    assert facts["id"] == job
    assert facts["status"] == "to be built"
    assert any("no engine is running" in sentence for sentence in facts["why"])
    assert "no engine is running" in execd("explain", job).output


def test_explain_tells_how_a_job_was_routed_and_why_it_failed(execd: CommandLine, tmp_path: Path):
    (tmp_path / "stderr").write_text("no such \x1b[31mfile\n")
    asked = [{"route": "big", "rule": "memory_at_least", "answer": False, "error": "ValueError: bad"}]
    job = submit(execd, "--", "false")
    with execd.client() as client:
        move_all(
            client.store,
            Status.ERROR,
            **{"exit": {"code": 3}, "dir": str(tmp_path), "execution.why": asked, "execution.route": "default"},
        )
    shown = execd("explain", job).output
    for words in (
        "exit code 3",
        "Routed by default to here",
        "memory_at_least",
        "no: it raised ValueError: bad",
        r"no such \x1b[31mfile",
    ):
        assert words in shown


def test_logs_are_the_jobs_output_byte_for_byte(execd: CommandLine, tmp_path: Path):
    job = submit(execd, "--", "true")
    result = execd("logs", job)
    assert result.exit_code == 1
    assert "to be built" in result.stderr
    with execd.client() as client:
        move_all(client.store, Status.FINISHED, dir=str(tmp_path))
    assert execd("logs", job).exit_code == 1
    (tmp_path / "stdout").write_bytes(b"\x00\xff\x1b[1m\n")
    (tmp_path / "stderr").write_bytes(b"oh")
    assert execd("logs", job).stdout_bytes == execd("logs", "-f", job).stdout_bytes == b"\x00\xff\x1b[1m\n"
    assert execd("logs", "--stderr", job).stdout_bytes == b"oh"
    assert execd("logs", "--stderr", "--attempt", "1", job).stdout_bytes == b"oh"
    assert "has no attempt 99 yet; its latest is 1" in execd("logs", "--attempt", "99", job).stderr


# --- waiting and asking


@pytest.mark.parametrize(("status", "code"), [(Status.FINISHED, 0), (Status.ERROR, 10), (Status.KILLED, 10)])
def test_wait_tells_by_its_exit_code_how_the_jobs_ended(execd: CommandLine, status: Status, code: int):
    job = submit(execd, "--", "true")
    with execd.client() as client:
        move_all(client.store, status)
    assert execd.json("wait", job, code=code)["statuses"] == {job: status.value}
    assert execd("wait", job).exit_code == code


@pytest.mark.parametrize(
    ("ending", "words", "cell"),
    [
        ({"exit": {"code": 3, "signal": None, "reason": "exit code"}}, "error, exit code 3", "3"),
        (
            {"exit": {"code": 143, "signal": "SIGTERM", "reason": "walltime"}},
            "error, exit code 143 (SIGTERM), walltime",
            "walltime",
        ),
        ({"exit": {"code": None, "signal": None, "reason": "no route"}}, "error, no route", "no route"),
        ({"error": {"kind": "invalid job", "message": "m"}}, "error, invalid job", "-"),
        ({"exit": {}}, "error", "-"),
    ],
)
def test_who_waits_is_told_reason_and_exit_code(execd: CommandLine, ending: dict[str, object], words: str, cell: str):
    job = submit(execd, "--", "true")
    with execd.client() as client:
        move_all(client.store, Status.ERROR, **ending)
    result = execd("wait", job)
    assert f"job {job}: {words}; `execd explain {job}` tells why" in result.stderr
    assert result.stdout.splitlines()[1].split(maxsplit=2)[1:] == ["error", cell]
    assert execd.json("wait", job, code=10)["failures"][job] | ending == {"exit": None, "error": None} | ending


def test_wait_gives_up_in_time_and_says_so(execd: CommandLine):
    job = submit(execd, "--", "true")
    result = execd("wait", job, "--timeout", "50ms")
    assert result.exit_code == 1
    assert "1 of 1 jobs have not ended" in result.stderr
    result = execd("submit", "--wait", "--timeout", "0", "--json", "--", "true")
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)) == {"ids", "statuses", "failures"}


def test_wait_names_all_jobs_that_are_not_there(execd: CommandLine):
    job = submit(execd, "--", "true")
    result = execd("wait", "one", job, "two")
    assert result.exit_code == 1
    assert "no job 'one'" in result.stderr
    assert "no job 'two'" in result.stderr


def test_a_default_in_a_help_text_is_told_once():
    assert "(1s)" not in CliRunner().invoke(main, ["jobs", "--help"]).output


@pytest.mark.parametrize("command", ["jobs", "events"])
def test_a_limit_that_no_database_takes_is_wrong_usage(execd: CommandLine, command: str):
    assert execd(command, "--limit", "9" * 26).exit_code == 2
