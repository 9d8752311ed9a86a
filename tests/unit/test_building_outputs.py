"""Which files of a job's directory its patterns match."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from execution_engine.building import outputs
from execution_engine.building.outputs import check_patterns, collect
from execution_engine.errors import BuildError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "job"
    for name in (
        "a.txt",
        "b.txt",
        "ü b.txt",
        ".hidden",
        "sub/c.txt",
        "sub/deep/d.txt",
        "sub/.h/e.txt",
        ".execd/exit",
        "sub/.execd/f.txt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def paths(directory: Path, *patterns: str) -> list[str]:
    return [result.path for result in collect(directory, patterns).results]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.txt"], ["a.txt", "b.txt", "ü b.txt"]),
        (["[ab].txt", "?.txt", "a.txt"], ["a.txt", "b.txt"]),
        (["**/*.txt"], ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "ü b.txt"]),
        (["**"], ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "ü b.txt"]),
        (["**/**/d.txt", "./sub//c.txt"], ["sub/c.txt", "sub/deep/d.txt"]),
        (["sub/**"], ["sub/c.txt", "sub/deep/d.txt"]),
        (["a.txt/**", "sub", "sub/deep/"], []),
        (["*/*.txt"], ["sub/c.txt"]),
        ([".*", "sub/.h/*"], [".hidden", "sub/.h/e.txt"]),
        ([".execd/*", ".*/exit", "**/exit", ".execd/**"], []),
        (["nothing*"], []),
        ([], []),
    ],
)
def test_patterns_match_as_in_a_shell(directory: Path, patterns: list[str], expected: list[str]) -> None:
    assert paths(directory, *patterns) == expected


def test_sizes_are_recorded(directory: Path) -> None:
    (directory / "a.txt").write_bytes(b"x" * 1234)
    assert [(result.path, result.size) for result in collect(directory, ["a*"]).results] == [("a.txt", 1234)]


def test_links_never_lead_out_of_the_directory(directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (tmp_path / "job2").mkdir()
    (directory / "link.txt").symlink_to(outside / "secret.txt")
    (directory / "out").symlink_to(outside)
    (directory / "loop").symlink_to(".")
    (directory / "own.txt").symlink_to(directory / ".execd/exit")
    (directory / "broken.txt").symlink_to("nowhere")
    (directory / "inside.txt").symlink_to("sub/c.txt")
    found = paths(directory, "**", "out/*", "link.txt", "loop/*.txt")
    assert found == ["a.txt", "b.txt", "inside.txt", "sub/c.txt", "sub/deep/d.txt", "ü b.txt"]


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_job_that_puts_a_link_in_the_place_of_its_directory_or_of_one_above_has_no_results(tmp_path: Path, levels: int) -> None:
    directory = tmp_path / "jobs/project/7f/1"
    replaced = (directory, *directory.parents)[levels]
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / directory.relative_to(replaced)).mkdir(parents=True)
    (elsewhere / directory.relative_to(replaced) / "secret.txt").write_text("secret")
    replaced.parent.mkdir(parents=True)
    replaced.symlink_to(elsewhere)
    assert (directory / "secret.txt").exists()
    assert paths(directory, "**") == []


def test_a_directory_that_becomes_a_link_during_the_look_is_not_followed(directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")

    def beat() -> None:
        if not (directory / "sub").is_symlink():
            (directory / "sub").rename(tmp_path / "away")
            (directory / "sub").symlink_to(outside)

    assert "secret.txt" not in " ".join(result.path for result in collect(directory, ["**"], beat).results)


def test_only_regular_files_are_recorded(directory: Path) -> None:
    os.mkfifo(directory / "pipe.txt")
    (directory / "dir.txt").mkdir()
    assert paths(directory, "*.txt") == ["a.txt", "b.txt", "ü b.txt"]


def test_a_name_that_is_not_utf8_can_be_stored(directory: Path) -> None:
    Path(os.fsdecode(os.fsencode(directory) + b"/odd\xff.dat")).write_text("x")
    assert paths(directory, "*.dat") == ["odd\\xff.dat"]


@pytest.mark.parametrize(("bound", "value"), [("MAX_RESULTS", 3), ("MAX_BYTES", 3 * 46), ("MAX_EXAMINED", 3)])
def test_results_are_bounded_in_number_and_bytes_and_the_cut_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.text").touch()
    monkeypatch.setattr(outputs, bound, value)
    whole = collect(tmp_path, ["*.text"])
    assert (len(whole.results), whole.cut) == (3, False)
    (tmp_path / "more.text").touch()
    part = collect(tmp_path, ["*.text"])
    assert (len(part.results) <= 3, part.cut) == (True, True)


def test_a_directory_that_is_deeper_than_python_can_recurse_is_walked(directory: Path) -> None:
    here = os.open(directory, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("n", dir_fd=here)
        below = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert "a.txt" in paths(directory, "**")
    subprocess.run(["rm", "-r", directory / "n"], check=True)  # pytest's own cleaning cannot


def test_a_directory_that_is_gone_has_no_results(tmp_path: Path) -> None:
    assert collect(tmp_path / "gone", ["**"]) == ([], False)


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../../b", ".."])
def test_a_pattern_that_leaves_the_directory_is_refused_and_matches_nothing(directory: Path, pattern: str) -> None:
    assert paths(directory, pattern) == []
    with pytest.raises(BuildError, match="not a pattern"):
        check_patterns([pattern])


@pytest.mark.parametrize("pattern", ["*.txt", "a..b", "results/**", "[", "**"])
def test_an_odd_but_harmless_pattern_is_taken(pattern: str) -> None:
    check_patterns([pattern])
