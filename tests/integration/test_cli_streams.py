"""Long lists: printed as they are read, in little memory, and ended quietly by a reader that has seen enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from execution_engine.cli.tables import print_table
from tests.support.commands import CommandLine

EXECD = [sys.executable, str(Path(__file__).parents[2] / "bin" / "execd")]
MANY = 20_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    execd = CommandLine(tmp_path_factory.mktemp("site"))
    job = {"status": "finished", "command": ["true"], "name": "n" * 300, "inputs": {"large": "x" * 2000}}
    with execd.client() as client:
        for begin in range(0, MANY, 2000):
            client.store.insert([{"_id": f"job-{number:06}", **job} for number in range(begin, begin + 2000)])
    return execd


def measured(execd: CommandLine, output: Path, *words: str) -> int:
    """Runs a command, its stdout in a file; the largest amount of memory that it had, in KiB."""
    with output.open("wb") as stream:
        process = subprocess.Popen([*EXECD, "-c", str(execd.file), *words], stdout=stream)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


@pytest.mark.parametrize("options", [(), ("--json",), ("--jsonl",)])
def test_a_long_list_of_jobs_takes_no_more_memory_than_a_short_one(site: CommandLine, tmp_path: Path, options: tuple[str, ...]):
    short = measured(site, tmp_path / "short", "jobs", "--limit", "1000", *options)
    long = measured(site, tmp_path / "long", "jobs", *options)
    assert long < short + 10_000
    text = (tmp_path / "long").read_text()
    if not options:
        lines = text.splitlines()
        assert len(lines) == MANY + 1
        assert max(map(len, lines)) < 400
        assert "n" * 199 + "…" in lines[1]
        return
    jobs: list[dict[str, Any]] = json.loads(text) if options == ("--json",) else [json.loads(line) for line in text.splitlines()]
    assert [job["_id"] for job in jobs] == [f"job-{number:06}" for number in reversed(range(MANY))]
    assert jobs[0]["inputs"] == {"large": "x" * 2000}


@pytest.mark.parametrize("command", [("jobs",), ("jobs", "--json"), ("jobs", "--jsonl")])
def test_a_reader_that_has_seen_enough_is_a_quiet_end(site: CommandLine, command: tuple[str, ...]):
    process = subprocess.Popen([*EXECD, "-c", str(site.file), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == -13
    process.stderr.close()


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("--version",),
        ("jobs", "--help"),
        ("jobs", "--limit", "1"),
        ("show", "job-000001"),
        ("explain", "job-000001"),
        ("status",),
        ("check",),
        ("doctor",),
        ("database-url",),
        ("completion", "bash"),
        ("submit", "--", "true"),
        ("events",),
        ("wait", "job-000001"),
    ],
)
def test_every_command_ends_quietly_when_nobody_reads(site: CommandLine, command: tuple[str, ...]):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*EXECD, "-c", str(site.file), *command], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120
    )
    os.close(writing)
    assert done.returncode == -13
    assert b"Traceback" not in done.stderr
    assert b"roken pipe" not in done.stderr


def test_a_reader_that_has_gone_is_noticed_after_a_few_rows(monkeypatch: pytest.MonkeyPatch):
    read = 0

    def rows() -> Iterator[tuple[str, ...]]:
        nonlocal read
        for read in range(1, 100_000):
            yield (str(read),)

    class Gone:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            """Nothing is held back."""

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        print_table(("N",), rows())
    assert read <= 400


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_has_not_all_characters_shows_their_numbers(site: CommandLine, encoding: str):
    with site.client() as client:
        client.submit([{"_id": f"world-{encoding}", "command": "true", "name": "\u4e16"}])
    for command in (("jobs", "--limit", "5"), ("show", f"world-{encoding}"), ("explain", f"world-{encoding}")):
        done = subprocess.run(
            [*EXECD, "-c", str(site.file), *command],
            capture_output=True,
            check=True,
            timeout=100,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert done.stderr == b""
    done = subprocess.run(
        [*EXECD, "-c", str(site.file), "show", f"world-{encoding}"],
        capture_output=True,
        check=True,
        timeout=100,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert b"\\u4e16" in done.stdout


@pytest.mark.parametrize(
    "command", [("show", b"\xff"), ("jobs", "--owner", b"\xff"), ("submit", "--name", b"\xff", "--", "true"), ("wait", b"a\xff")]
)
def test_a_word_that_is_no_text_is_wrong_usage(site: CommandLine, command: tuple[str | bytes, ...]):
    done = subprocess.run(
        [*EXECD, "-c", str(site.file), *command],
        capture_output=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert b"UTF-8" in done.stderr or b"surrogates" in done.stderr
