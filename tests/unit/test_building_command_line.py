"""Commands and environments as lines of a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_engine.building import check
from execution_engine.building.command_line import command_line, environment_lines, quote
from execution_engine.errors import BuildError
from tests.support.building import SHELLS, a_job

WORDS = st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40), max_size=6)


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None)
@given(words=WORDS)
def test_a_shell_takes_quoted_words_as_they_are(shell: str, words: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(map(quote, ["first", *words])) + "\n"
    done = subprocess.run(SHELLS[shell], input=script.encode(), capture_output=True, timeout=20, check=True)
    assert done.stdout == b"".join(word.encode() + b"\0" for word in ["first", *words])


def test_nul_cannot_be_quoted() -> None:
    with pytest.raises(BuildError, match="NUL"):
        quote("a\0b")


@pytest.mark.parametrize(("command", "problem"), [(["", "a"], "no program"), ("", "empty"), (" \n", "empty")])
def test_a_command_without_a_program_is_refused(command: list[str] | str, problem: str) -> None:
    with pytest.raises(BuildError, match=problem):
        command_line(a_job(command=command).command)


def test_a_program_that_looks_like_an_option_is_refused_with_the_way_out() -> None:
    with pytest.raises(BuildError, match=r"\./-x"):
        command_line(("-x", "-y"))


@pytest.mark.parametrize("name", ["1A", "A-B", "", "A B", "Ä", "A=B", "A\n", "$A"])
def test_a_variable_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BuildError, match="not the name of a variable"):
        environment_lines(a_job(env={name: "x"}), Path("/d"))


@pytest.mark.parametrize("name", ["EXECD_JOB_ID", "EXECD_ANYTHING"])
def test_the_variables_of_execd_cannot_be_overridden(name: str) -> None:
    with pytest.raises(BuildError, match="execd itself"):
        environment_lines(a_job(env={name: "x"}), Path("/d"))


@pytest.mark.parametrize("name", ["UID", "PPID", "SHELLOPTS", "OPTIND"])
def test_the_variables_of_the_shell_cannot_be_set(name: str) -> None:
    with pytest.raises(BuildError, match="belongs to the shell"):
        environment_lines(a_job(env={name: "x"}), Path("/d"))


@pytest.mark.parametrize(("memory", "megabytes"), [(0, 0), ("1K", 1), ("1G", 1024), ("1.5M", 1)])
def test_a_memory_limit_is_told_in_megabytes_and_never_as_none(memory: int | str, megabytes: int) -> None:
    lines = environment_lines(a_job(resources={"memory": memory}), Path("/d"))
    assert f"export EXECD_MEMORY_MB='{megabytes}'" in lines.splitlines()


def test_all_that_no_machine_could_build_is_found_at_once_without_touching_the_disk() -> None:
    job = a_job(command=["-x"], env={"1A": "x", "EXECD_X": "y", "GOOD": "z"}, inputs={"/a": "x", "b": "y"}, outputs=["", "*"])
    assert [problem.split(":")[0] for problem in check(job)] == ["command", "env", "env", "inputs", "outputs"]
    assert check(a_job()) == []
