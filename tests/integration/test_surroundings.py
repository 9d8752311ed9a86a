"""What a job finds around its command: an interpreter, a prologue, a umask; and what no program can be given."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from execution_engine.building import build, check
from execution_engine.building.surroundings import Surroundings
from execution_engine.errors import BuildError, InvalidJob
from execution_engine.jobs.exit_record import JOB_SCRIPT, read_exit_record
from tests.support.building import SHELLS, a_job, configuration
from tests.support.engine_fixtures import MakeEngine

Run = Callable[..., tuple[int, str, str]]
WORD = 32 * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """`run(command, surroundings, **fields)` gives the exit code, stdout and stderr of a job."""

    def done(
        command: Any,
        surroundings: Surroundings = Surroundings(),  # noqa: B008 - it is frozen
        root: Path = tmp_path,
        *,
        argument: tuple[str, ...] = (),
        **fields: Any,
    ) -> tuple[int, str, str]:
        directory = build(a_job(command=command, **fields), configuration(root), surroundings=surroundings)
        subprocess.run([*SHELLS[request.param], str(directory / JOB_SCRIPT), *argument], env={}, cwd="/", timeout=20, check=False)
        record = read_exit_record(directory)
        assert record is not None
        return record.code, (directory / "stdout").read_text(), (directory / "stderr").read_text()

    return done


# --- which program runs a string


def test_the_first_line_of_a_script_names_its_interpreter(run: Run, tmp_path: Path) -> None:
    code = "import os, sys\nprint(sys.flags.no_site, os.access(sys.argv[0], os.X_OK), os.getcwd() == os.environ['EXECD_JOB_DIR'])"
    assert run(f"#!{sys.executable} -S\n{code}") == (0, "1 True True\n", "")
    assert run(f"#! /usr/bin/env python3\n{code.replace('no_site', 'inspect')}", _id="env")[1] == "0 True True\n"


@pytest.mark.parametrize("text", ["echo plain $0", "#!\necho plain $0", "# !/nowhere\necho plain $0"])
def test_a_script_without_such_a_line_is_one_of_the_shell(run: Run, text: str) -> None:
    assert run(text) == (0, "plain .execd/command\n", "")


def test_an_interpreter_that_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    code, out, said = run("#!/opt/no/python9 -u\nprint(1)")
    assert (code, out) == (127, "")
    assert said == "execd: /opt/no/python9, which is to run the command, cannot be executed here\n"
    (tmp_path / "data").write_text("no program")
    (tmp_path / "data").chmod(0o600)
    assert run(f"#!{tmp_path}/data\n", _id="data")[0] == 126


@pytest.mark.parametrize(("line", "problem"), [("#!/bin/bash\r", "carriage return"), ("#!python3", "no absolute path")])
def test_a_line_that_cannot_work_is_known_before(line: str, problem: str) -> None:
    (found,) = check(a_job(command=f"{line}\necho"))
    assert problem in found


def test_a_job_s_own_shell_goes_before_its_first_line_and_that_before_the_system_s(run: Run) -> None:
    bash = Surroundings(shell=("/bin/bash", "-eu"))
    assert run("echo ${BASH_VERSION:+bash} $-", bash)[1].startswith("bash ")
    assert "e" in run("echo $-", bash, _id="e")[1]
    assert run("#!/bin/sh\necho sh", bash, _id="line")[1] == "sh\n"
    assert run("#!/bin/sh\nprint(7)", bash, _id="own", shell=[sys.executable, "-S"])[1] == "7\n"
    assert run("print(8)", _id="name", shell=sys.executable)[1] == "8\n"
    with pytest.raises(BuildError, match="shell: '-x' is no program"):
        run("true", _id="odd", shell="-x")


# --- what is done before it


def test_a_prologue_is_done_before_each_command_in_its_shell(run: Run) -> None:
    before = Surroundings(prologue='set -- one two\nexport LOADED="it\'s $# $EXECD_CORES"\nPATH=/opt/tools:$PATH')
    assert run(["sh", "-c", 'echo "$LOADED ${PATH%%:*}"'], before) == (0, "it's 2 1 /opt/tools\n", "")
    assert run('echo "$LOADED $#"', before, _id="string")[1] == "it's 2 1 0\n"


@pytest.mark.parametrize("name", ["job1", "it's a $(dir) of ü"])
def test_a_prologue_that_goes_elsewhere_leaves_the_command_in_the_job_s_directory(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for number, lines in enumerate(["cd /", "cd() { echo mine; }; CDPATH=/tmp; command cd /", "cd /; set -eu"]):
        before, root = Surroundings(prologue=lines), tmp_path / name
        assert run('[ "$PWD" = "$EXECD_JOB_DIR" ] && pwd -P && ls', before, root, _id=f"s{number}")[1].endswith(
            "\nstderr\nstdout\n"
        )
        assert run(["./tool"], before, root, _id=f"l{number}", inputs={"tool": "#!/bin/sh\necho here"}) == (0, "here\n", "")


@pytest.mark.parametrize(
    ("lines", "code"),
    [("echo no licence >&2; exit 3", 3), ("if then (", 2), ("exit 0", 0), ("trap 'exit 4' EXIT; exit 5", 4), ("exec false", 1)],
)
@pytest.mark.parametrize("argument", [(), ("foreground",)])
def test_a_prologue_that_ends_ends_the_job_and_its_record_says_so(
    run: Run, lines: str, code: int, argument: tuple[str, ...], tmp_path: Path
) -> None:
    ended, out, _ = run("echo ran", Surroundings(prologue=lines), argument=argument)
    assert (ended, out) == (code, "") or (code == 2 and ended in (1, 2))
    (directory,) = (tmp_path / "jobs").glob("*/*/job1")
    record = read_exit_record(directory)
    assert record is not None
    assert record.in_prologue


def test_a_command_that_was_reached_is_not_taken_for_the_prologue_whatever_it_takes_away(run: Run, tmp_path: Path) -> None:
    for number, command in enumerate(["exit 3", "rm -rf .execd/ready; exit 3", "ls /proc/self/fd | tr '\\n' ' '; exit 3"]):
        code, out, _ = run(command, Surroundings(prologue="true"), _id=f"job{number}")
        (directory,) = (tmp_path / "jobs").glob(f"*/*/job{number}")
        record = read_exit_record(directory)
        assert record is not None
        assert (code, record.in_prologue) == (3, False)
        assert {"7", "8", "9"}.isdisjoint(out.split())


def test_an_engine_says_that_the_prologue_ended_the_job(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems={"here": {"class": "Local", "prologue": "[ -z $GO ] && exit $CODE\ncd /"}})
    engine.start()
    environments = ({"CODE": "3"}, {"CODE": "0"}, {"GO": "1"})
    *bad, good = engine.run(*({"command": "exit 0", "env": environment} for environment in environments))
    assert [(job["status"], job["exit"]["reason"], job["exit"]["code"]) for job in bad] == [
        ("error", "prologue failed", 3),
        ("error", "prologue failed", 0),
    ]
    assert "`prologue` of its execution system" in bad[0]["error"]["message"]
    assert good["status"] == "finished"


# --- who may see its files


def _modes(directory: Path, *names: str) -> list[str]:
    return [f"{stat.S_IMODE((directory / name).stat().st_mode):03o}" for name in names]


def test_a_umask_of_the_system_opens_the_job_s_directory_and_what_is_in_it(run: Run, tmp_path: Path) -> None:
    inputs = {"d/data": "x", "d/tool": "#!/bin/sh"}
    assert run("umask; : >new", Surroundings(umask=0o027), inputs=inputs)[1].strip() in ("0027", "027")
    (directory,) = (tmp_path / "jobs").glob("*/*/job1")
    assert _modes(directory, ".", "d", "d/data", "d/tool", "new", "stdout", "..", "../..") == [
        *("750", "750", "640", "750", "640", "640", "710", "710")
    ]
    assert _modes(directory, ".execd") == ["700"], "what is execd's stays so"


def test_a_job_may_be_more_private_than_its_system_and_never_less(run: Run, tmp_path: Path) -> None:
    assert run(": >new", Surroundings(umask=0o027), umask="077")[0] == 0
    (directory,) = (tmp_path / "jobs").glob("*/*/job1")
    assert _modes(directory, ".", "new") == ["700", "600"]
    for allowed, wanted in ((0o077, "027"), (0o027, "007"), (0o027, "0022")):
        with pytest.raises(BuildError, match=f"umask: {wanted} is wider than {allowed:03o}, which is allowed on its system"):
            run("true", Surroundings(umask=allowed), _id="wide", umask=wanted)


@pytest.mark.parametrize("umask", ["27", "888", 27, "777", "0o27"])
def test_a_umask_that_is_none_is_an_error_of_the_document(umask: Any) -> None:
    with pytest.raises(InvalidJob, match="umask"):
        a_job(umask=umask)


def test_an_engine_gives_the_jobs_of_a_system_what_its_configuration_says(make_engine: MakeEngine) -> None:
    here = {"class": "Local", "umask": "027", "prologue": "LOADED=yes; export LOADED", "shell": ["/bin/bash"]}
    engine = make_engine(execution_systems={"here": here})
    engine.start()
    good, wide = engine.run({"command": "echo $LOADED ${BASH_VERSION:+bash}; umask"}, {"command": ["true"], "umask": "022"})
    assert (Path(good["dir"]) / "stdout").read_text() == "yes bash\n0027\n"
    assert _modes(Path(good["dir"]), ".") == ["750"]
    assert (wide["status"], wide["exit"]["reason"]) == ("error", "build failed")
    assert "wider than 027" in wide["error"]["message"]


# --- what no program can be given


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"command": ["true", "x" * WORD]}, "command: argument 1 has 131,072 bytes; a program can be given 131,071 in one"),
        ({"command": ["true"], "env": {"LONG": "ü" * (WORD // 2)}}, "env: LONG has 131,077 bytes; a program can be given"),
        ({"command": "true", "env": {f"V{n}": "x" * (WORD - 9) for n in range(99)}}, "bytes together; a program can be given"),
    ],
)
def test_what_is_too_long_for_any_program_is_known_before(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    (found,) = check(a_job(**fields))
    assert problem in found.replace(f"{WORD:,}", "131,072").replace(f"{WORD - 1:,}", "131,071").replace(
        f"{WORD + 5:,}", "131,077"
    )
    with pytest.raises(BuildError, match="a program can be given"):
        build(a_job(**fields), configuration(tmp_path))


def test_what_is_as_long_as_can_be_is_given(run: Run) -> None:
    code, out, _ = run(["sh", "-c", "echo ${#0} ${#LONG}", "x" * (WORD - 1)], env={"LONG": "y" * (WORD - 6)})
    assert (code, out) == (0, f"{WORD - 1} {WORD - 6}\n")
