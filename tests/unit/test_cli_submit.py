"""`execd submit` and `execd simulate`: what gets into the database."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from tests.support.commands import CommandLine


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


def test_a_command_line_is_submitted_word_for_word(execd: CommandLine):
    job_id = execd("submit", "--", "sh", "-c", "--json", "--", "$x ").stdout.strip()
    document = execd.json("show", job_id)
    assert document["command"] == ["sh", "-c", "--json", "--", "$x "]
    assert document["status"] == "to be built"
    assert document["owner"] == pwd.getpwuid(os.getuid()).pw_name


def test_options_make_the_document(execd: CommandLine, tmp_path: Path):
    (tmp_path / "text").write_text("Grüße")
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    options = {
        "--name": ["n"],
        "--project": ["p"],
        "--owner": ["o"],
        "--env": ["A=b=c", "B="],
        "--input": [f"a.txt={tmp_path}/text", f"b.bin={tmp_path}/bytes"],
        "--output": ["*.txt", "out/*"],
        "--cores": ["2"],
        "--memory": ["512M"],
        "--walltime": ["1:30:00"],
        "--priority": ["-3"],
        "--tag": ["x", "y"],
    }
    words = [word for name, values in options.items() for value in values for word in (name, value)]
    job_id = execd("submit", *words, "--no-notify", "--", "true").stdout.strip()
    with execd.client() as client:
        document = client.get(client.store.resolve(job_id))
    expected = {
        "name": "n",
        "project": "p",
        "owner": "o",
        "env": {"A": "b=c", "B": ""},
        "inputs": {"a.txt": "Grüße", "b.bin": b"\xff\x00"},
        "outputs": ["*.txt", "out/*"],
        "resources": {"cores": 2, "memory": "512M", "walltime": "1:30:00"},
        "priority": -3,
        "tags": ["x", "y"],
        "notify": False,
        "command": ["true"],
    }
    assert {name: document[name] for name in expected} == expected


def test_options_add_to_what_a_file_says_or_replace_it(execd: CommandLine, tmp_path: Path):
    file = tmp_path / "job.yaml"
    file.write_text("command: x\nname: old\nowner: me\nenv: {A: 1, B: 2}\nresources: {cores: 2, walltime: 1h}\ntags: [a]")
    words = ["--name", "new", "--env", "B=3", "--walltime", "2h", "--tag", "b"]
    (job_id,) = execd.json("submit", str(file), *words)["ids"]
    document = execd.json("show", job_id)
    assert (document["name"], document["owner"], document["tags"]) == ("new", "me", ["a", "b"])
    assert document["env"] == {"A": "1", "B": "3"}
    assert document["resources"] == {"cores": 2, "walltime": "2h"}


def test_jobs_come_from_files_and_from_stdin(execd: CommandLine, tmp_path: Path):
    (tmp_path / "one.json").write_text(json.dumps({"command": ["a"]}))
    (tmp_path / "two.yaml").write_text("- command: [b]\n- command: [c]\n---\ncommand: [d]\n")
    result = execd("submit", str(tmp_path / "one.json"), str(tmp_path / "two.yaml"), "-", stdin="command: [e]")
    commands = [execd.json("show", job)["command"] for job in result.stdout.split()]
    assert commands == [["a"], ["b"], ["c"], ["d"], ["e"]]


def test_a_draft_stays_a_draft(execd: CommandLine):
    (job,) = execd.json("submit", "-", stdin="{command: x, status: init}")["ids"]
    assert execd.json("show", job)["status"] == "init"


def test_all_problems_of_all_jobs_are_named_and_none_is_submitted(execd: CommandLine):
    text = """
      - command: x
      - {name: no command}
      - {command: x, priority: high, resources: {memory: lots, discs: 2}}
      - {command: x, status: running}
    """
    result = execd("submit", "-", stdin=text)
    assert result.exit_code == 1
    for words in ("job 2: command", "job 3: priority", "job 3: resources.memory", "job 3: resources.discs", "job 4: status"):
        assert f"execd: {words}" in result.stderr
    assert result.stdout == ""
    assert execd.json("jobs") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command: [", "-: "),
        ("", "there is no job in it"),
        ("command: x\nenv: 5", "env: expected a document"),
        ("command: x\ntags: 5", "tags: expected a list"),
        ("command: x\nnot_before: tomorrow", "not_before: 'tomorrow' is not a date"),
        ("command: x\nnot_before: 5", "not_before: expected a date"),
        ("command: x\nretry: {attempts: 2}", "retry: not served"),
        ("command: x\nresources: {walltime: 1e300}", "resources.walltime: 1e+300 is too long; expected at most 2147483647 s"),
        ("command: x\nresources: {memory: 1e300}", "resources.memory: 1e+300 is too large"),
        ("command: x\nresources: {cores: 1e300}", "resources.cores: expected a whole number of at most 64 bits"),
        ("command: x\nresources: {cores: 2147483648}", "resources.cores: Input should be less than 2147483648"),
        ("command: x\nnot_before: '+9999999999999'", "not_before: '9999999999999' is too long"),
        ('command: x\nnotify: "yes"', "notify: expected true or false, found 'yes', or expected a list"),
        ("command: x\nnotify: 1", "notify: expected true or false, found 1, or expected a list"),
        ("command: []", "command: expected a program"),
        ("command: ['']", "command: no program"),
        ("command: [-x]", "command: the program '-x' would be taken for an option"),
        ("command: ' '", "command: an empty script"),
        ("command: x\nenv: {1A: x}", "env: '1A' is not the name of a variable"),
        ("command: x\nenv: {EXECD_X: x}", "env: EXECD_X is set by execd itself"),
        ("command: x\ninputs: {/etc/x: x}", "inputs: '/etc/x' is not a file name"),
        ("command: x\noutputs: [../x]", "outputs: '../x' is not a pattern"),
        ("command: x\nmine: [{a: 99999999999999999999999}]", "mine.0.a: expected a whole number of at most 64 bits"),
    ],
)
def test_a_bad_job_is_refused_with_its_field(execd: CommandLine, text: str, words: str):
    result = execd("submit", "--env", "A=b", "--tag", "t", "-", stdin=text)
    assert result.exit_code == 1
    assert words in result.stderr


def test_a_field_that_has_no_meaning_is_a_warning_and_with_strict_an_error(execd: CommandLine):
    text = "[{command: x, ressources: {cores: 2}, zzz: 1, x-mine: 1}, {command: x, ressources: {}}]"
    result = execd("submit", "-", stdin=text)
    assert (result.exit_code, len(result.stdout.split())) == (0, 2)
    warnings = result.stderr.splitlines()
    assert warnings[0].startswith("execd: warning: job 1 and 1 more: ressources: no such field; did you mean resources?")
    assert warnings[1].startswith("execd: warning: job 1: zzz: no such field; execd gives it no meaning")
    assert len(warnings) == 2
    assert len(execd.json("submit", "--strict", "-", stdin="{command: x, x-mine: 1}")["ids"]) == 1
    refused = execd("submit", "--strict", "-", stdin="[{command: x, ressources: {}}, {comand: x}]")
    assert (refused.exit_code, refused.stdout) == (1, "")
    for words in (
        "job 1: ressources: no such field; did you mean resources?",
        "job 2: comand: no such field; did you mean command?",
    ):
        assert words in refused.stderr
    assert "job 2: command: missing" in refused.stderr


@pytest.mark.parametrize(
    ("name", "meant"), [*((name, name) for name in ("walltime", "memory", "cores", "gpus", "native")), ("memroy", "memory")]
)
def test_a_resource_beside_the_resources_is_told_where_it_belongs(execd: CommandLine, name: str, meant: str):
    result = execd("submit", "--strict", "-", stdin=f"{{command: x, {name}: 1}}")
    assert f"{name}: no such field; did you mean resources.{meant}?" in result.stderr


def test_a_misspelt_resource_is_told_with_the_one_that_was_meant(execd: CommandLine):
    result = execd("submit", "-", stdin="{command: x, resources: {memroy: 1G, zzz: 1}}")
    assert result.stderr.splitlines() == [
        "execd: resources.memroy: no such field; did you mean resources.memory?",
        "execd: resources.zzz: no such field",
    ]


def test_what_is_wrong_in_a_list_is_told_once(execd: CommandLine):
    jobs = [{"command": ["a", "b\0"]}, {"command": "x", "notify": ["\0"]}, {"command": "x", "inputs": {"a": {"source": "\0"}}}]
    lines = execd("submit", "-", stdin=json.dumps(jobs)).stderr.splitlines()
    assert [line.split(" must")[0] for line in lines] == [
        "execd: job 1: command.1:",
        "execd: job 2: notify.0:",
        "execd: job 3: inputs.a.source:",
    ]
    assert all("NUL" in line for line in lines)


def test_a_command_that_is_a_number_is_refused(execd: CommandLine):
    result = execd("submit", "-", stdin="[{command: 5}, {command: 1.5}, {command: true}]")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "job 1: command: expected a list, found 5, or expected a string" in result.stderr
    assert "job 3" not in result.stderr, "a program of that name"


def test_the_engine_s_own_fields_are_a_warning_and_with_strict_an_error(execd: CommandLine):
    job = "{command: x, history: [], attempts: [], lease: {}, notified: {}, dir: /x, exit: null}"
    names = ("history", "attempts", "lease", "notified", "dir")
    said = execd("submit", "-", stdin=job).stderr.splitlines()
    assert [line.split(":")[2].strip() for line in said] == [*names]
    assert all("is the engine's own" in line for line in said)
    refused = execd("submit", "--strict", "-", stdin=job)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.count("is the engine's own") == len(names)


def test_an_empty_id_is_refused_with_a_clear_word(execd: CommandLine):
    assert "_id: expected an id, found an empty text" in execd("submit", "-", stdin='{_id: "", command: x}').stderr


def test_fields_that_the_configuration_names_are_the_apps_own(execd: CommandLine):
    execd.file.write_text(execd.file.read_text() + "\napp_fields: [gateway_*, colour]\n")
    job = "{command: x, gateway_user: 1, colour: red}"
    assert execd("submit", "--strict", "-", stdin=job).exit_code == 0
    assert execd("submit", "-", stdin=job).stderr == ""
    assert "color: no such field" in execd("submit", "-", stdin="{command: x, color: red}").stderr


def test_files_that_cannot_be_read_are_named(execd: CommandLine, tmp_path: Path):
    for words in ([str(tmp_path / "none.yaml")], ["--input", f"a={tmp_path}/none.yaml", "--", "true"], [str(tmp_path)]):
        result = execd("submit", *words)
        assert result.exit_code == 1
        assert str(tmp_path) in result.stderr
        assert "Errno" not in result.stderr


def test_every_problem_of_every_job_is_named_with_the_number_of_its_job(execd: CommandLine):
    jobs = "[{command: x}, {command: x, not_before: tomorrow, priority: high}, 5, {array: 3, retry: 1, env: {1: a}, tags: 5}]"
    result = execd("submit", "-", stdin=jobs)
    assert result.exit_code == 1
    expected = ["job 2: not_before: 'tomorrow'", "job 2: priority:", "job 3: expected a job", "job 4: array:", "job 4: retry:"]
    for words in (*expected, "job 4: command: missing", "job 4: tags:"):
        assert f"execd: {words}" in result.stderr
    assert "job 1" not in result.stderr


def test_a_job_that_is_nested_too_deeply_is_refused(execd: CommandLine):
    result = execd("submit", "-", stdin="{command: x, mine: " + "[" * 100 + "]" * 100 + "}")
    assert result.exit_code == 1
    assert "mine.0.0" in result.stderr
    assert "nested too deeply" in result.stderr


def test_the_same_id_twice_is_refused(execd: CommandLine):
    assert execd("submit", "-", stdin="{_id: a, command: x}").exit_code == 0
    result = execd("submit", "-", stdin="[{_id: b, command: x}, {_id: a, command: x}]")
    assert result.exit_code == 1
    assert [job["_id"] for job in execd.json("jobs")] == ["a"]


def test_a_value_that_no_database_holds_is_refused(execd: CommandLine):
    result = execd("submit", "-", stdin="{command: x, mine: 99999999999999999999999}")
    assert result.exit_code == 1
    assert result.stderr.startswith("execd: ")


def test_simulated_jobs_are_as_an_app_writes_them(execd: CommandLine):
    ids = execd.json("simulate", "--jobs", "40", "--interval", "0", "--batch", "0..9", "--failing", "0.3", "--seed", "1")["ids"]
    jobs = execd.json("jobs", "--tag", "simulated")
    assert sorted(job["_id"] for job in jobs) == sorted(ids)
    assert len(ids) == 40
    assert {job["project"] for job in jobs} == {"project1", "project2", "project3"}
    assert {job["owner"] for job in jobs} == {"owner1", "owner2", "owner3"}
    assert 0 < sum("exit 3" in job["command"] for job in jobs) < 40
    assert {job["status"] for job in jobs} == {"to be built"}


def test_the_same_seed_makes_the_same_jobs(execd: CommandLine):
    def jobs() -> list[dict[str, object]]:
        ids = execd.json("simulate", "--jobs", "5", "--interval", "0", "--seed", "7")["ids"]
        found = [execd.json("show", job) for job in ids]
        return [{name: job[name] for name in ("command", "owner", "project", "priority", "tags")} for job in found]

    assert jobs() == jobs()


def test_the_summary_of_a_simulation_counts_the_jobs(execd: CommandLine):
    shown = execd("simulate", "--jobs", "3", "--interval", "0", "--projects", "1", "--command", "true").output
    assert "3 jobs in" in shown
    assert "project1: 3" in shown


def test_an_empty_id_is_refused(execd: CommandLine):
    result = execd("submit", "-", stdin='{"_id": "", "command": "true"}')
    assert result.exit_code == 1
    assert "_id: expected an id, found an empty text" in result.stderr


def test_an_input_too_large_for_a_document_is_not_read_to_its_end(execd: CommandLine):
    result = execd("submit", "--input", "a=/dev/zero", "--", "true")
    assert result.exit_code == 1
    assert "/dev/zero is larger than 15M" in result.stderr
    assert "source: PATH" in result.stderr


@pytest.mark.parametrize(("option", "value"), [("--memory", "1X"), ("--walltime", "-5")])
def test_a_value_of_an_option_that_is_none_is_wrong_usage(execd: CommandLine, option: str, value: str):
    result = execd("submit", option, value, "--", "true")
    assert (result.exit_code, option in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('"request": "explode"', "request: expected one of kill"),
        ('"request": ["kill"]', "request: expected one of kill"),
        ('"priority": 1e308', "priority: expected a whole number of at most 64 bits"),
    ],
)
def test_what_no_engine_could_use_is_refused(execd: CommandLine, field: str, message: str):
    result = execd("submit", "-", stdin=f'{{"command": "true", {field}}}')
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr


def test_a_job_file_that_is_a_pipe_or_a_device_is_not_waited_for(execd: CommandLine):
    pipe = execd.file.parent / "pipe"
    os.mkfifo(pipe)
    for odd, what in ((str(pipe), "a named pipe"), ("/dev/zero", "a device")):
        result = execd("submit", odd)
        assert (result.exit_code, f"{odd}: it is {what}; give a file" in result.stderr) == (1, True), result.stderr


def test_a_job_file_may_be_what_a_shell_pipes(execd: CommandLine):
    out, into = os.pipe()
    with os.fdopen(into, "wb") as writer:
        writer.write(b"command: true")
    try:
        assert len(execd.json("submit", f"/dev/fd/{out}")["ids"]) == 1
    finally:
        os.close(out)
