"""Reading the configuration: values, places, and every kind of problem."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from execution_engine.config import load, locate
from execution_engine.config.document import read
from execution_engine.config.models import Config
from execution_engine.config.safety import faults, wrong_user
from execution_engine.config.values import PollInterval
from execution_engine.errors import ConfigError
from tests.support.configurations import SMALLEST, write


def problems_of(file: Path, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environment)
    return caught.value.problems


def test_a_small_file_is_enough_and_its_paths_are_relative_to_its_directory(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    assert config.database.url == f"sqlite:///{tmp_path}/execd.db"
    assert (config.jobs_dir, config.run_dir, config.log.file) == (tmp_path / "jobs", tmp_path / "run", tmp_path / "log/execd.log")
    assert config.execution_systems["here"].class_ == "Local"
    assert config.routes[0].rules == ()
    assert config.warnings == ()


def test_an_absolute_database_path_stays_as_it_is(tmp_path: Path) -> None:
    config = load(write(tmp_path, database='{url: "sqlite:////var/lib/execd/../execd/execd.db"}'), {})
    assert config.database.url == "sqlite:////var/lib/execd/execd.db"


@pytest.mark.parametrize(
    ("run_dir", "wrong"),
    [("jobs", "is the same directory as jobs_dir"), ("run/../jobs/.", "is the same"), ("jobs/run", "is below jobs_dir")],
)
def test_a_run_directory_among_the_jobs_is_refused(tmp_path: Path, run_dir: str, wrong: str) -> None:
    (problem,) = problems_of(write(tmp_path, run_dir=run_dir))
    assert f"run_dir: {wrong}" in problem


@pytest.mark.parametrize(
    "section", ["{actors: {building: 1000000}}", "{actors: {submit: 1001}}", "{batch: 1000000}", "{lease: 1e300}"]
)
def test_numbers_that_no_machine_can_serve_are_refused(tmp_path: Path, section: str) -> None:
    (problem,) = problems_of(write(tmp_path, engine=section))
    assert "expected" in problem


def test_a_path_may_begin_with_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(write(tmp_path, jobs_dir="~/jobs"), {}).jobs_dir == tmp_path / "home/jobs"
    assert "jobs_dir: ~no-such-user/jobs: no home directory" in problems_of(write(tmp_path, jobs_dir="~no-such-user/jobs"))[0]


def test_durations_and_sizes_are_read_as_people_write_them(tmp_path: Path) -> None:
    config = load(write(tmp_path, engine="{lease: 1m30s, grace: 5, kill_delay: 250ms}", log="{file: l, max_size: 2M}"), {})
    assert (config.engine.lease, config.engine.grace, config.engine.kill_delay) == (90.0, 5.0, 0.25)
    assert config.log.max_size == 2 << 20


def test_an_interval_that_gives_one_end_keeps_its_own_other_end(tmp_path: Path) -> None:
    engine = load(
        write(tmp_path, engine="{status_interval: {max: 5s}, retry_delay: {min: 2s}, poll_interval: {max: 2s}}"), {}
    ).engine
    assert engine.status_interval == PollInterval(min=0.5, max=5)
    assert engine.retry_delay == PollInterval(min=2, max=60)
    assert engine.poll_interval == PollInterval(min=0.1, max=2)


def test_words_that_old_yaml_takes_for_truths_and_minutes_are_strings(tmp_path: Path) -> None:
    text = SMALLEST.replace("here", "on") + "inputs: {urls: yes}\n"
    text = text.replace("{name: default,", "{name: default, rules: [{time_of_day: {start: 18:00}}],")
    config = load(write(tmp_path, text), {})
    assert list(config.execution_systems) == ["on"]
    assert config.routes[0].rules[0].parameters == {"start": "18:00"}
    assert config.inputs.urls is True


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, jobs_dir='"${DATA}/jobs-$${x}"', engine='{batch: "${N}"}', pass_environment="[A, B]")
    config = load(file, {"DATA": "/data", "N": "7"})
    assert (config.jobs_dir, config.engine.batch) == (Path("/data/jobs-${x}"), 7)


def test_a_variable_that_is_not_set_or_not_named_is_a_problem(tmp_path: Path) -> None:
    file = write(tmp_path, jobs_dir='"${NOWHERE}/jobs"', run_dir='"${EMPTY}/run"', rules_dirs='["${a b}", "${open"]')
    found = problems_of(file, EMPTY="")
    assert [line.partition(": ")[2] for line in found] == [
        "jobs_dir: the environment variable NOWHERE is not set",
        "run_dir: the environment variable EMPTY is not set",
        "rules_dirs[0]: ${a b} does not name a variable; expected ${NAME}, or $${ for the characters themselves",
        "rules_dirs[1]: ${open does not name a variable; expected ${NAME}, or $${ for the characters themselves",
    ]


def test_an_unknown_key_is_named_even_if_its_value_is_wrong_too(tmp_path: Path) -> None:
    file = write(tmp_path, rundir='"${NOWHERE}"', database="{url_file: gone, tiemout: '${X}'}")
    assert [line.partition(": ")[2] for line in problems_of(file)] == [
        "rundir: is not a known key; did you mean run_dir?",
        "rundir: the environment variable NOWHERE is not set",
        "database.tiemout: is not a known key; did you mean timeout?",
        "database.tiemout: the environment variable X is not set",
        f"database.url_file: {tmp_path}/gone: cannot be read: No such file or directory",
    ]


def test_a_line_break_in_a_name_breaks_no_line_of_a_message(tmp_path: Path) -> None:
    routes = r'[{name: "a\nb", execution_system: here}, {name: "c\e[1m", execution_system: "he\nre"}]'
    file = write(tmp_path, routes=routes)
    (problem,) = problems_of(file)
    assert problem.endswith(r"there is no execution system he\nre; did you mean here?")
    file = write(tmp_path, routes=routes.replace(r"he\nre", "here"))
    (warning,) = load(file, {}).warnings
    assert warning.endswith(r"routes: no job gets to c\x1b[1m: a\nb has no rules and takes every job before")


def test_a_value_from_the_environment_is_in_no_message(tmp_path: Path) -> None:
    file = write(tmp_path, engine='{batch: "${SECRET}", lease: "${SECRET}"}', database='{url: "${SECRET}"}')
    found = problems_of(file, SECRET="hunter2")
    assert len(found) == 3
    assert "hunter2" not in "\n".join(found)


def test_a_url_can_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mongodb://execd:hunter2@db/\n")
    (tmp_path / "hook").write_text("json://token@host/\n")
    file = write(tmp_path, database="{url_file: secret}", notification="{targets: {hook: {url_file: hook}}}")
    config = load(file, {})
    assert config.database.url == "mongodb://execd:hunter2@db/"
    assert config.notification.targets["hook"].url == "json://token@host/"


def test_the_file_of_a_url_may_be_below_a_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/secret").write_text("mongodb://db/\n")
    assert load(write(tmp_path, database="{url_file: ~/secret}"), {}).database.url == "mongodb://db/"
    (problem,) = problems_of(write(tmp_path, database="{url_file: ~no-such-user/secret}"))
    assert "database.url_file: ~no-such-user/secret: no home directory" in problem


def test_a_secret_file_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("json://host/")
    (tmp_path / "open").chmod(0o666)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    targets = "{a: {url_file: open}, b: {url_file: binary}, c: {url_file: .}, d: {url: 'json://h', url_file: open}, e: {}}"
    found = problems_of(write(tmp_path, database="{url_file: gone}", notification=f"{{targets: {targets}}}"))
    keys = [line.split(": ")[1] for line in found]
    assert keys == ["database.url_file", *(f"notification.targets.{name}.url_file" for name in "abcd"), "notification.targets.e"]
    for text, line in zip(
        ("No such file", "chmod go-w", "not UTF-8", "it is a directory; give a file", "found both", "url or url_file"),
        found,
        strict=True,
    ):
        assert text in line


EVERYTHING_WRONG = """\
database:
  url: http://execd:hunter2@host
  timeout: soon
jobs_dir: 5
jobs_dir: elsewhere
rundir: run
log: {file: execd.log, format: xml, level: info, max_size: 1, keep: none}
engine:
  poll_intervall: {min: 1s, max: 2s}
  status_interval: {min: 2m, max: 30s}
  batch: 2.5
  actors: {building: 0}
  lease: [60]
inputs: {urls: perhaps, paths: /data}
execution_systems:
  here: {clas: Local}
  "a/b": {class: Local}
routes:
  - {name: one, execution_system: her}
  - {name: one, execution_system: here, rules: [{owner: alice}, {owner: {names: a}, tag: {names: b}}, 7]}
  - {nam: two, execution_system: here}
pass_environment: {PATH: true}
notification: {default: [mial], targets: {mail: {url: 5}}}
"""


def test_all_problems_are_reported_together_with_file_line_and_key(tmp_path: Path) -> None:
    file = write(tmp_path, EVERYTHING_WRONG)
    expected = """\
1: run_dir: is missing
2: database.url: expected a URL that begins with sqlite:///, mongodb:// or mongodb+srv://
3: database.timeout: 'soon' is not a duration; expected for example 100ms, 2s, 1h30m or 1:30:00
4: jobs_dir: is given twice: in line 4 and in line 5
6: rundir: is not a known key; did you mean run_dir?
7: log.format: expected 'human' or 'json', found "xml"
7: log.max_size: expected greater than or equal to 10000, found 1
7: log.keep: expected a whole number, found "none"
9: engine.poll_intervall: is not a known key; did you mean poll_interval?
10: engine.status_interval: min (2m00s) is larger than max (30s)
11: engine.batch: expected a whole number, found 2.5
12: engine.actors.building: expected greater than or equal to 1, found 0
13: engine.lease: [60] is not a duration; expected for example 100ms, 2s, 1h30m or 1:30:00
14: inputs.urls: expected true or false, found "perhaps"
14: inputs.paths: expected a list, found "/data"
16: execution_systems.here.class: is missing
17: execution_systems.a/b: expected a name of at most 32 letters, digits, - and _
19: routes[0].execution_system: there is no execution system her; did you mean here?
20: routes[1].name: two routes are called one; each needs a name of its own
20: routes[1].rules[0]: expected the parameters of owner by name, for example {memory_at_least: {amount: 8G}}
20: routes[1].rules[1]: expected one rule for each entry of the list, found 2: owner, tag
20: routes[1].rules[2]: expected the name of a rule, alone or with its parameters: {memory_at_least: {amount: 8G}}
21: routes[2].name: is missing
21: routes[2].nam: is not a known key; did you mean name?
22: pass_environment: expected a list, found keys and values
23: notification.default[0]: there is no target mial in notification.targets; did you mean mail?
23: notification.targets.mail.url: expected a string
"""
    found = problems_of(file)
    assert sorted(found) == sorted(f"{file}:{line}" for line in expected.splitlines())
    assert [int(line.split(":")[1]) for line in found] == sorted(int(line.split(":")[0]) for line in expected.splitlines())
    assert "hunter2" not in "\n".join(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("jobs_dir: [a\nrun_dir: b\n", ":2: not valid YAML"),
        ("a: b: c\n", ":1: not valid YAML: mapping values are not allowed here"),
        ("- just\n- a list\n", ":1: expected keys and values"),
        ("a: 1\n---\nb: 2\n", ":2: not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("a: !!python/name:os.system x\n", "have no meaning here"),
        ("a: &a [*a]\n", "a[0]: contains itself"),
        ("{a: 1}: 2\n", "expected a plain word before the colon"),
    ],
)
def test_what_is_not_a_mapping_in_yaml_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in "\n".join(problems_of(write(tmp_path, text)))


def test_an_empty_file_lacks_everything_that_is_needed(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, ""))
    assert [line.split(": ")[1] for line in found] == ["database", "jobs_dir", "run_dir", "log", "execution_systems", "routes"]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_bytes(b"jobs_dir: \xff\n")
    assert problems_of(file) == [f"{file}: is not UTF-8 text (byte 10)"]


def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == [f"{tmp_path}: is a directory; give the file, such as {tmp_path}/execd.yaml"]
    tmp_path.chmod(0o777)
    assert problems_of(tmp_path) == [f"{tmp_path}: is a directory; give the file, such as {tmp_path}/execd.yaml"]


def test_the_files_name_is_not_a_key(tmp_path: Path) -> None:
    assert "file: is not a known key" in problems_of(write(tmp_path, file="x"))[0]


def test_a_database_in_memory_is_refused(tmp_path: Path) -> None:
    for url in ("sqlite:///:memory:", "sqlite:///", "sqlite://x"):
        assert "database.url: expected" in problems_of(write(tmp_path, database=f"{{url: '{url}'}}"))[0]


@pytest.mark.parametrize(
    ("database", "name"),
    [
        ("{url: 'mongodb://h1,h2:27018/gateway?replicaSet=rs0'}", "gateway"),
        ("{url: 'mongodb://ann:pa%2Fss@h/my%20jobs.jobs'}", "my jobs"),
        ("{url: 'mongodb+srv://h/gateway', name: gateway}", "gateway"),
        ("{url: 'mongodb://root@h/admin'}", "execd"),
        ("{url: 'mongodb://root@h/admin', name: jobs}", "jobs"),
        ("{url: 'mongodb://h/?authSource=users', name: jobs}", "jobs"),
        ("{url: 'mongodb://h'}", "execd"),
    ],
)
def test_the_database_in_the_path_of_a_url_is_the_default_of_its_name(tmp_path: Path, database: str, name: str) -> None:
    assert load(write(tmp_path, database=database), {}).database.name == name


def test_a_url_that_names_another_database_than_the_name_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, database="{url: 'mongodb://ann:secret@h/gateway', name: execd}"))
    assert "name is 'execd', and the path of url names the database 'gateway'" in problem
    assert "authSource=gateway" in problem
    assert "secret" not in problem


def test_a_run_dir_whose_sockets_nobody_could_open_is_refused(tmp_path: Path) -> None:
    assert "run_dir" in problems_of(write(tmp_path, run_dir="/" + "x" * 100))[0]


def test_no_systems_and_no_routes_are_problems(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, execution_systems="{}", routes="[]"))
    assert [line.split(": ", 1)[1] for line in found] == [
        "execution_systems: expected at least one entry",
        "routes: expected at least one entry",
    ]


def test_routes_and_systems_that_are_bad_are_not_said_to_be_missing(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, execution_systems="{here: {slots: 1}}", routes="[{name: a, rule: []}]"))
    assert [line.split(": ", 1)[1] for line in found] == [
        "execution_systems.here.class: is missing",
        "routes[0].rule: is not a known key; did you mean rules?",
        "routes[0].execution_system: is missing",
    ]


def test_a_name_of_the_machine_that_is_none_is_told_with_what_is_expected(tmp_path: Path) -> None:
    (found,) = problems_of(write(tmp_path, engine='{identity: "a b"}'))
    assert found.split(": ", 1)[1] == (
        "engine.identity: expected at most 100 letters, digits, dots, - and _, of which a letter or a digit is the first"
    )


def test_a_truth_is_no_number(tmp_path: Path) -> None:
    engine = "{batch: true, crashes: false, actors: {submit: true}}"
    found = problems_of(write(tmp_path, engine=engine, notification="{attempts: true}"))
    assert sorted(line.split(": ", 1)[1] for line in found) == [
        "engine.actors.submit: expected a whole number, found true",
        "engine.batch: expected a whole number, found true",
        "engine.crashes: expected a whole number, found false",
        "notification.attempts: expected a whole number, found true",
    ]


def test_a_file_that_others_could_change_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.chmod(0o664)
    assert problems_of(file) == [f"{file}: not used, because others could change it (mode 0664); mend it with: chmod go-w {file}"]


def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for odd, what in ((tmp_path / "pipe", "a named pipe"), (Path("/dev/zero"), "a device")):
        assert problems_of(odd) == [f"{odd}: not used, because it is {what}; give a file"]
        named = write(tmp_path, database=f"{{url_file: {odd}}}", notification=f"{{targets: {{a: {{url_file: {odd}}}}}}}")
        found = problems_of(named)
        assert [f"{odd}: not used, because it is {what}; give a file" in line for line in found] == [True, True]
        with pytest.raises(ConfigError, match=f"{odd}: cannot be read: it is {what}"):
            read(odd, {})  # also where it is put there after it was looked at


def test_an_engine_that_is_to_be_roots_is_started_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(write(tmp_path, user="root"))
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert str(wrong_user(config)).endswith("cannot become; start it as root")


def test_a_device_in_the_place_of_the_engines_own_things_is_told_as_such(tmp_path: Path) -> None:
    settings = {"jobs_dir": "/dev/null", "run_dir": "/dev/zero", "database": "{url: sqlite:////dev/null}"}
    assert [what for _, what in faults(load(write(tmp_path, **settings)))] == [
        "/dev/null: not used, because it is a device; give a file",
        "/dev/null: not used, because it is a device; give a directory",
        "/dev/zero: not used, because it is a device; give a directory",
    ]


def test_routes_after_one_that_takes_every_job_are_a_warning(tmp_path: Path) -> None:
    routes = "[{name: all, execution_system: here}, {name: late, execution_system: here}]"
    file = write(tmp_path, routes=routes)
    (warning,) = load(file, {}).warnings
    assert warning == f"{file}:7: routes: no job gets to late: all has no rules and takes every job before"


def test_a_plugin_directory_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    file = write(tmp_path, rules_dirs="[mine]")
    assert load(file, {}).warnings == (f"{file}:9: rules_dirs: {tmp_path}/mine is not there; nothing is loaded from it",)


def test_the_line_of_each_key_is_known(tmp_path: Path) -> None:
    file = write(tmp_path)
    config = load(file, {})
    assert config.place("routes", 0, "execution_system") == f"{file}:8"
    assert config.place("execution_systems", "here", "slots") == f"{file}:6"
    assert config.place("engine") == f"{file}:1"


def test_a_configuration_survives_the_way_to_another_process(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.place("routes") == config.place("routes")


def test_the_file_is_looked_for_in_the_agreed_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    in_conf, here, named, given = (tmp_path / name for name in ("conf/execd.yaml", "execd.yaml", "named.yaml", "given.yaml"))
    for file in (in_conf, here, named, given):
        file.touch()
    assert locate(Path("given.yaml"), {"EXECD_CONFIG": str(named)}) == given
    assert locate(None, {"EXECD_CONFIG": str(named)}) == named
    assert locate(None, {}) == in_conf
    in_conf.unlink()
    assert locate(None, {}) == here


def test_a_file_that_is_not_there_is_named_with_how_it_was_asked_for(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "gone.yaml") == [f"{tmp_path}/gone.yaml: there is no such file"]
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file \(named by \$EXECD_CONFIG\)"):
        load(None, {"EXECD_CONFIG": str(tmp_path / "gone.yaml")})


@pytest.mark.skipif(Path("/etc/execd/execd.yaml").exists(), reason="this machine has a configuration of its own")
def test_where_no_configuration_is_the_message_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="execd init"):
        load(None, {})


def test_jobs_see_only_the_variables_that_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("MINE", "y")
    config = load(write(tmp_path, pass_environment="[MINE, NOT_SET_ANYWHERE]"), {})
    assert config.job_environment() == {"MINE": "y"}


def test_a_configuration_made_in_a_program_has_no_lines(tmp_path: Path) -> None:
    read = load(write(tmp_path), {})
    made = Config.model_validate({**read.model_dump(by_alias=True), "file": read.file})
    assert made.place("routes", 0) == str(read.file)
