"""The output of jobs, read although the job may have put anything in its place: by `logs`, `explain` and notifications."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from execution_engine.clock import SystemClock
from execution_engine.job_output import opened
from execution_engine.jobs.status import Status
from execution_engine.store.job_store import Change
from tests.support.commands import CommandLine, move_all
from tests.support.engines import EXECD, until

CHANGING = """\
import os, sys
while True:
    os.symlink(sys.argv[1], "stdout")
    os.remove("stdout")
    os.mkfifo("stdout")
    os.remove("stdout")
    with open("stdout", "w") as file:
        file.write("mine\\n")
    os.remove("stdout")
"""


@pytest.fixture
def execd(short_dir: Path) -> CommandLine:
    return CommandLine(short_dir / "site")


@pytest.fixture
def directory(execd: CommandLine) -> Path:
    """Of a job that failed."""
    directory = execd.config.jobs_dir / "project/7f/1"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def job(execd: CommandLine, directory: Path) -> str:
    (job,) = execd.json("submit", "-", stdin="{command: x}")["ids"]
    with execd.client() as client:
        move_all(client.store, Status.RUNNING, dir=str(directory))
    return str(job)


def a_link(path: Path) -> None:
    secret = path.parents[4] / "secret"
    secret.write_text("secret\n")
    path.symlink_to(secret)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def a_directory_that_leads_away(path: Path) -> None:
    elsewhere = path.parents[4] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / path.name).write_text("secret\n")
    path.parent.rmdir()
    path.parent.symlink_to(elsewhere)


def a_shard_that_leads_away(path: Path) -> None:
    elsewhere = path.parents[4] / "elsewhere" / path.parent.name
    elsewhere.mkdir(parents=True)
    (elsewhere / path.name).write_text("secret\n")
    path.parent.rmdir()
    path.parents[1].rmdir()
    path.parents[1].symlink_to(elsewhere.parent)


@pytest.mark.parametrize(
    ("put", "named"),
    [
        (a_link, "a symbolic link in its place"),
        (a_device, "a symbolic link in its place"),
        (os.mkfifo, "a named pipe in its place"),
        (a_socket, "a socket in its place"),
        (Path.mkdir, "a directory in its place"),
        (a_directory_that_leads_away, "a symbolic link in the place of 1"),
        (a_shard_that_leads_away, "a symbolic link in the place of 7f"),
    ],
)
def test_whatever_is_no_plain_file_of_the_job_is_named_and_not_read(
    execd: CommandLine, job: str, directory: Path, put: Callable[[Path], None], named: str
) -> None:
    put(directory / "stderr")
    command = [*EXECD, "-c", str(execd.file)]
    for words in (("logs", "--stderr"), ("logs", "--stderr", "--tail", "1"), ("logs", "--stderr", "-f"), ("explain",)):
        done = subprocess.run([*command, words[0], job, *words[1:]], capture_output=True, text=True, timeout=60, check=False)
        assert "secret" not in done.stdout
        if words[0] == "logs":
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"execd: {directory}/stderr: not read: there is {named}\n"
    fail_all(execd)
    assert f"(not readable from here: not read: there is {named})" in execd("explain", job).output


def fail_all(execd: CommandLine) -> None:
    """The running job ends in error."""
    with execd.client() as client:
        jobs = client.store.on_system("here")
        assert len(list(jobs)) == 1
        client.store.apply([Change(job, Status.ERROR) for job in jobs], "test", SystemClock().now())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run bin/test as root")
def test_a_file_of_another_user_than_its_directory_is_not_read(directory: Path) -> None:
    """As a hard link to it would be, where the kernel lets users make one."""
    (directory / "stdout").write_text("secret")
    os.chown(directory / "stdout", 1, 1)
    with pytest.raises(PermissionError, match="belongs to another user"), opened(directory, "stdout"):
        pass


def test_a_file_that_is_as_large_as_can_be_costs_neither_memory_nor_time(execd: CommandLine, job: str, directory: Path) -> None:
    with (directory / "stdout").open("wb") as file:
        file.write(b"first\n")
        file.seek(1 << 40)  # sparse
        file.write(b"\nlast but one\nlast\n")
    limit = 1 << 30

    def said(*words: str) -> bytes:
        return subprocess.run(
            [*EXECD, "-c", str(execd.file), "logs", job, *words],
            capture_output=True,
            timeout=60,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        ).stdout

    assert said("--head", "1") == b"first\n"
    assert said("--tail", "2") == b"last but one\nlast\n"
    assert said("--tail", "0") == said("--head", "0") == b""
    assert len(said("--tail", "3")) == 3 * (1 << 16)
    assert len(said("--head", "2")) == 2 * (1 << 16)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a", b"a\n", b"a\nb", b"a\n\nb\n", b"x" * 70_000 + b"\ny\n" + b"z" * 70_000, b"line\n" * 50_000],
    ids=len,
)
def test_the_first_and_the_last_lines_are_those_of_head_and_tail(directory: Path, content: bytes) -> None:
    (directory / "stdout").write_bytes(content)
    for lines in (0, 1, 2, 3, 49_999, 60_000):
        whole = content.splitlines(keepends=True)
        for wanted in (whole[:lines], whole[len(whole) - min(lines, len(whole)) :]):
            if any(len(line) > lines << 16 for line in wanted) or sum(map(len, wanted)) > lines << 16:
                continue  # cut, as the test above has it
            with opened(directory, "stdout") as output:
                parts: list[bytes] = []
                if wanted == whole[:lines]:
                    output.copy(parts.append, lines)
                    assert b"".join(parts) == b"".join(wanted)
                parts.clear()
                output.go_to_last(lines)
                output.copy(parts.append)
                assert b"".join(parts) == b"".join(whole[len(whole) - min(lines, len(whole)) :])


def test_a_file_that_grows_meanwhile_ends_where_it_ended_when_it_was_asked_for(directory: Path) -> None:
    path = directory / "stdout"
    path.write_bytes(b"x" * 200_000)
    with opened(directory, "stdout") as output, path.open("ab", buffering=0) as writer:
        taken: list[int] = []

        def take(chunk: bytes) -> None:
            taken.append(len(chunk))
            writer.write(chunk * 2)

        output.copy(take)
        assert sum(taken) == 200_000


def test_who_follows_sees_the_end_of_one_attempt_and_the_next_one_from_its_beginning(
    execd: CommandLine, job: str, directory: Path
) -> None:
    (directory / "stdout").write_bytes(b"old\nfirst\n")
    command = [*EXECD, "-c", str(execd.file), "logs", "-f", "--tail", "1", job]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"first\n"
        with (directory / "stdout").open("ab") as before:
            (directory / "stdout").rename(directory / "kept")
            before.write(b"of the first\n")
        (directory / "stdout").write_bytes(b"second\n")
        assert [following.stdout.readline() for _ in range(2)] == [b"of the first\n", b"second\n"]
        fail_all(execd)
        assert following.communicate(timeout=30) == (b"", None)


def test_a_reader_is_not_held_up_by_a_job_that_changes_names_under_it(directory: Path) -> None:
    """Whatever is opened is what was looked at: content of a plain file, or an error."""
    secret = directory.parents[3] / "secret"
    secret.write_text("secret")
    changing = subprocess.Popen([sys.executable, "-c", CHANGING, str(secret)], cwd=directory)
    try:
        seen: dict[str, int] = {}

        def look() -> bool:
            for _ in range(50):
                try:
                    with opened(directory, "stdout") as output:
                        said = output.end(100)[0].decode()
                except OSError as error:
                    said = type(error).__name__
                seen[said] = seen.get(said, 0) + 1
            return seen.get("mine\n", 0) > 5 and sum(seen.values()) > 500

        until(look, "the reader saw the job's own file", timeout=60)
        assert "secret" not in seen
    finally:
        changing.kill()
        changing.wait()
