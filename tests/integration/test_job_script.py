"""The job script, run by each POSIX shell of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from execution_engine.jobs.exit_record import (
    START_MARKER,
    find_exit_record,
    prevent_start,
    read_copies,
    read_exit_record,
    read_start_marker,
)
from tests.support.building import SHELLS, BuiltJob, until
from tests.support.limits import full_after

Make = Callable[..., BuiltJob]

CATCHES = """\
trap 'echo {name} >>got' {name}
: >ready
while [ ! -e stop ]; do sleep 0.02; done
exit {code}
"""


@pytest.fixture(params=SHELLS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Builds a job for one of the shells."""

    def built(command: Any, **fields: Any) -> BuiltJob:
        return BuiltJob(tmp_path, SHELLS[request.param], command=command, **fields)

    return built


@pytest.mark.parametrize(("code", "own"), [(0, 0), (1, 1), (42, 42), (98, 98), (99, 1), (100, 1), (255, 255)])
def test_the_record_tells_the_code_and_the_script_ends_with_one_that_no_scheduler_misunderstands(
    make: Make, code: int, own: int
) -> None:
    ended, record = make(f"exit {code}").end()
    assert (ended, record.code, record.signal, record.attempt) == (own, code, None, 1)


def test_a_program_that_is_not_found_gives_127_and_says_so(make: Make) -> None:
    job = make(["no-such-program-anywhere"])
    assert job.end()[1].code == 127
    assert "no-such-program-anywhere" in job.text("stderr")


def test_a_file_that_cannot_be_executed_gives_126(make: Make) -> None:
    assert make(["./data"], inputs={"data": "no program"}).end()[1].code == 126


def test_a_builtin_of_the_shell_is_no_program(make: Make) -> None:
    assert make(["exit", "3"]).end()[1].code == 127


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_the_signal_that_ended_the_command_is_recorded(make: Make, name: str) -> None:
    code, record = make(f"kill -s {name[3:]} $$").end()
    assert (record.signal, record.code, code) == (name, 128 + signal.Signals[name], record.code)


def test_the_record_tells_host_times_and_processor_time(make: Make) -> None:
    before = time.time()
    job = make("i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; sleep 0.1")
    _, record = job.end()
    assert record.host == os.uname().nodename
    assert record.wall is not None
    assert record.cpu is not None
    assert record.started is not None
    assert record.ended is not None
    assert 0.1 <= record.wall < 10
    assert 0.01 <= record.cpu <= record.wall + 0.05
    assert before - 0.1 <= record.started <= record.ended <= time.time() + 0.1


def test_the_command_finds_its_surroundings_as_promised(make: Make) -> None:
    job = make(
        'pwd; umask; readlink /proc/self/fd/0; printf "%s\\n" "$COLOUR" "$EXECD_JOB_ID" "$EXECD_JOB_DIR" "$EXECD_ATTEMPT" '
        '"$EXECD_CORES" "$EXECD_MEMORY_MB"; echo wrong >&2',
        env={"COLOUR": "it's $(red)\nand `blue`"},
        resources={"cores": 3, "memory": "2G"},
    )
    assert job.run().returncode == 0
    here = str(job.directory)
    seen = [here, "0077", "/dev/null", "it's $(red)", "and `blue`", "job1", here, "1", "3", "2048"]
    assert job.text("stdout").splitlines() == seen
    assert job.text("stderr") == "wrong\n"


def test_the_variables_of_the_script_stay_its_own(make: Make) -> None:
    job = make(["env"], env={"A": "1", "PATH": os.environ["PATH"], "execd_code": "7", "LC_ALL": "C"})
    assert job.end()[1].code == 0
    names = {line.split("=")[0] for line in job.text("stdout").splitlines()}
    ours = {f"EXECD_{name}" for name in ("JOB_ID", "JOB_DIR", "ATTEMPT", "CORES", "MEMORY_MB")}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"A", "PATH", "execd_code", "LC_ALL"} | ours


def test_arguments_reach_the_program_as_they_are(make: Make) -> None:
    arguments = [
        "$(touch hacked)",
        "`id`",
        "it's",
        '"',
        "",
        " ",
        "-n",
        "--",
        "a\nb",
        "ü€😀",
        "*",
        "\\",
        "!x",
        "a=b",
        "~",
        "\x81\x88",
        "\t",
    ]
    job = make(["printf", "%s|", *arguments])
    assert job.run().returncode == 0
    assert job.text("stdout") == "".join(f"{argument}|" for argument in arguments)
    assert not (job.directory / "hacked").exists()


def test_a_directory_of_any_name_is_entered(make: Make, tmp_path: Path) -> None:
    odd = tmp_path / "it's a $(dir)\nwith ü"
    odd.mkdir()
    job = BuiltJob(odd, ["/bin/sh"], command="echo here")
    assert job.end()[1].code == 0
    assert job.text("stdout") == "here\n"


def test_without_its_directory_the_script_ends_at_once_with_a_message(make: Make, tmp_path: Path) -> None:
    job = make(f"touch {tmp_path}/ran")
    moved = tmp_path / "moved"
    script = moved / ".execd/job_script"
    job.directory.rename(moved)
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "cannot enter its directory; the command was not run" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_without_a_place_for_the_marker_the_command_is_not_run(make: Make, tmp_path: Path) -> None:
    job = make(f"touch {tmp_path}/ran")
    aside = tmp_path / "job_script"
    job.script.rename(aside)
    shutil.rmtree(job.directory / ".execd")
    done = subprocess.run(["sh", str(aside)], capture_output=True, text=True, timeout=20)
    assert (done.returncode, "cannot make .execd/started" in done.stderr) == (1, True)
    assert not (tmp_path / "ran").exists()


def test_of_eight_copies_of_a_script_one_runs_the_command(make: Make) -> None:
    job = make("echo ran >>count")
    shell = job.argv
    copies = [subprocess.Popen(shell, env={}, cwd="/", stderr=subprocess.PIPE) for _ in range(8)]
    said = [copy.communicate(timeout=20)[1] for copy in copies]
    assert [copy.returncode for copy in copies] == [0] * 8
    assert said == [b""] * 8
    assert job.text("count") == "ran\n"


def _files(job: BuiltJob) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in job.directory.rglob("*") if path.is_file()}


def test_a_second_copy_says_that_it_was_there_and_changes_nothing(make: Make) -> None:
    job = make("exit 5")
    assert job.run().returncode == 5
    assert read_copies(job.directory, 1) == []
    before = _files(job)
    assert [job.run().returncode for _ in range(2)] == [0, 0]
    assert read_copies(job.directory, 1) == [os.uname().nodename] * 2
    assert read_copies(job.directory, 2) == [], "of another attempt"
    assert {path: file for path, file in _files(job).items() if path.name != "copies"} == before


def test_a_second_copy_that_cannot_say_so_ends_as_quietly(make: Make) -> None:
    job = make("true")
    job.run()
    (job.directory / ".execd" / "copies").mkdir()
    done = job.run()
    assert (done.returncode, read_copies(job.directory, 1)) == (0, [])


@pytest.mark.parametrize("was_started", [True, False])
def test_a_copy_of_an_attempt_that_is_over_leaves_the_next_one_alone(make: Make, tmp_path: Path, was_started: bool) -> None:
    command = f"echo attempt $EXECD_ATTEMPT >>{tmp_path}/ran"
    first = make(command)
    spooled = tmp_path / "as the scheduler keeps it"
    shutil.copy(first.script, spooled)
    if was_started:
        first.end()
    second = make(command, attempt=2)
    late = subprocess.run([*second.argv[:-1], spooled], env={}, cwd="/", capture_output=True, check=False, timeout=20)
    assert (late.returncode, late.stderr) == (0, b"")
    assert read_start_marker(second.directory) is None
    assert second.end()[1].attempt == 2
    assert (tmp_path / "ran").read_text() == "attempt 1\n" * was_started + "attempt 2\n"


def test_a_start_that_was_prevented_never_comes(make: Make) -> None:
    job = make("echo ran")
    assert [prevent_start(job.directory, 1) for _ in range(2)] == [True, True]
    assert read_start_marker(job.directory) is None
    assert job.run().returncode == 0
    assert (job.text("stdout"), read_exit_record(job.directory)) == ("", None)
    assert prevent_start(job.directory, 1), "also after the script has come"
    again = make("echo ran")
    assert again.end()[1].code == 0, "a job that is built anew starts"


def test_a_start_that_has_come_is_not_prevented(make: Make) -> None:
    job = make("echo ran")
    job.run()
    assert not prevent_start(job.directory, 1)
    (job.directory / START_MARKER).write_text("")
    assert not prevent_start(job.directory, 1), "its line may come late"


def test_what_is_prevented_of_one_attempt_does_not_concern_another(make: Make) -> None:
    first = make("echo $EXECD_ATTEMPT")
    assert prevent_start(first.directory, 2), "not built yet"
    assert first.end()[1].attempt == 1
    second = make("echo $EXECD_ATTEMPT", attempt=2)
    assert prevent_start(second.directory, 1), "over"
    assert second.end()[1].attempt == 2
    assert second.text("stdout") == "2\n"


def test_where_there_is_no_directory_nothing_starts(make: Make, tmp_path: Path) -> None:
    job = make("true")
    shutil.rmtree(job.directory / ".execd")
    assert prevent_start(job.directory, 1)
    shutil.rmtree(job.directory)
    assert prevent_start(job.directory, 1)
    assert prevent_start(tmp_path / "nowhere", 1)


def test_a_start_whose_marker_cannot_be_written_is_not_said_to_be_prevented(make: Make) -> None:
    job = make("echo ran")
    with full_after(0), pytest.raises(OSError, match="large"):
        prevent_start(job.directory, 1)
    assert job.end()[1].code == 0
    assert job.text("stdout") == "ran\n"


def test_the_start_marker_identifies_the_process(make: Make) -> None:
    job = make("while [ ! -e stop ]; do sleep 0.02; done")
    with job.started() as script:
        until(lambda: read_start_marker(job.directory) is not None, "the start marker")
        marker = read_start_marker(job.directory)
        assert marker is not None
        assert (marker.attempt, marker.pid, marker.host) == (1, script.pid, os.uname().nodename)
        assert abs(marker.at - time.time()) < 10
        (job.directory / "stop").touch()
        assert script.wait(20) == 0


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "USR2", "XCPU"])
def test_each_signal_reaches_the_command_once_and_the_wait_goes_on(make: Make, name: str) -> None:
    job = make(CATCHES.format(name=name, code=127))
    with job.started() as script:
        job.wait_for("ready")
        for times in (1, 2, 3):
            os.kill(script.pid, signal.Signals[f"SIG{name}"])
            job.wait_for("got", f"{name}\n" * times)
        assert script.poll() is None
        (job.directory / "stop").touch()
        assert script.wait(20) == 127
    assert job.text("got") == f"{name}\n" * 3
    assert job.record().code == 127


@pytest.mark.parametrize("sent", ["SIGINT", "SIGQUIT", "SIGTERM"])
def test_a_signal_that_asks_to_end_ends_the_command_by_term(make: Make, sent: str) -> None:
    job = make(": >ready; exec sleep 30")
    with job.started() as script:
        job.wait_for("ready")
        os.kill(script.pid, signal.Signals[sent])
        assert script.wait(20) == 143
    assert job.record().signal == "SIGTERM"


@pytest.mark.parametrize("name", ["TERM", "USR1"])
def test_a_signal_before_the_command_was_started_ends_it_unstarted(make: Make, name: str) -> None:
    job = make("echo ran >ran; exec sleep 30")
    job.script.write_text(job.script.read_text().replace("set +C\n", f"set +C\nkill -s {name} $$\n", 1))
    assert job.end()[1].signal == f"SIG{name}"
    assert job.text("ran") == ""


def test_signals_that_meet_the_end_of_the_command_do_not_hide_its_code(make: Make) -> None:
    job = make("trap '' TERM; : >ready; sleep 0.05; exit 7")
    with job.started() as script:
        job.wait_for("ready")
        while script.poll() is None:
            os.kill(script.pid, signal.SIGTERM)
            time.sleep(0.001)
    assert job.record().code in ((7, 143) if "bash" in job.argv[0] else (7,))


def test_a_signal_to_the_whole_process_group_is_told_as_it_was(make: Make) -> None:
    """Command and script hear it in the same moment."""
    for number in range(10):
        job = make(": >ready; exec sleep 30", job_id=f"group{number}")
        with job.started() as script:
            job.wait_for("ready")
            os.killpg(script.pid, signal.SIGTERM)
            assert script.wait(20) == 143
        assert job.record().signal == "SIGTERM"


def test_what_the_command_left_in_the_background_is_not_waited_for(make: Make) -> None:
    job = make("sleep 30 >/dev/null 2>&1 & echo $! >left; exit 4")
    with job.started() as script:
        assert script.wait(20) == 4
        assert job.record().code == 4
        os.kill(int(job.text("left")), 0)


AWAY = {
    "removes what is execd's": "rm -rf .execd",
    "removes it": 'rm -rf "$EXECD_JOB_DIR"',
    "moves it": 'mv "$EXECD_JOB_DIR" "$EXECD_JOB_DIR.moved"',
    "replaces it": 'mv "$EXECD_JOB_DIR" "$EXECD_JOB_DIR.moved"; mkdir -p "$EXECD_JOB_DIR/.execd"',
    "replaces it by a file": 'mv "$EXECD_JOB_DIR" "$EXECD_JOB_DIR.moved"; : >"$EXECD_JOB_DIR"',
    "makes it read-only": "chmod -R a-w . && ! touch file 2>/dev/null && chmod a-wx .execd",
    "replaces the record": "rm .execd/exit; mkdir .execd/exit; rmdir .execd/exit; ln -s /dev/zero .execd/exit",
}


@pytest.mark.parametrize("how", ["", "foreground"])
@pytest.mark.parametrize("away", AWAY)
def test_whatever_a_job_does_to_its_directory_its_end_is_told(make: Make, away: str, how: str) -> None:
    job = make(f"{AWAY[away]} && exit 5")
    job.argv += [how] if how else []
    if away == "makes it read-only" and os.geteuid() == 0:
        job.argv = ["unshare", "--map-user=1000", *job.argv]  # as somebody who is not allowed everything
    done = job.run()
    if b"unshare" in done.stderr:
        pytest.skip("namespaces of users are not allowed here")
    assert (done.returncode, done.stderr) == (5, b"")
    record = find_exit_record(job.directory, 1)
    assert record is not None
    assert (record.code, record.attempt, find_exit_record(job.directory, 2)) == (5, 1, None)


def test_a_record_that_the_job_wrote_itself_does_not_count(make: Make) -> None:
    job = make("cat .execd/exit; echo execd-exit-1 code=0 attempt=1 host=here end >.execd/exit; exit 5")
    assert job.end()[1].code == 5
    assert job.text("stdout") == "", "nothing is in it while the command runs"


@pytest.mark.parametrize("how", ["", "foreground"])
def test_the_command_has_none_of_the_script_s_files(make: Make, how: str) -> None:
    job = make("ls -l /proc/self/fd >fds; : >ready; while [ ! -e stop ]; do sleep 0.02; done & exit 0")
    job.argv += [how] if how else []
    with job.started() as script:
        assert script.wait(20) == 0
        job.wait_for("ready")
        assert ".execd/exit" not in job.text("fds")
        (job.directory / "stop").touch()


def test_a_copy_of_an_earlier_attempt_that_ends_late_leaves_nothing_beside_the_directory(make: Make) -> None:
    first = make(": >ready; while [ ! -e stop ]; do sleep 0.02; done")
    with first.started() as script:
        first.wait_for("ready")
        second = make("true", attempt=2)
        (second.directory / ".execd/attempt-1/stop").touch()
        assert script.wait(20) == 0
    assert find_exit_record(second.directory, 1) is None
    assert [path.name for path in second.directory.parent.iterdir()] == [second.directory.name]


def test_on_a_full_disk_the_script_fails_and_leaves_no_record(tmp_path: Path) -> None:
    """A file system of 256 KB, in a mount namespace of its own."""
    job = BuiltJob(tmp_path, ["/bin/sh"], command="cat /dev/zero >fill")
    mounted = tmp_path / "jobs"
    steps = f"""
        cp -a {mounted} {tmp_path}/copy && mount -t tmpfs -o size=256k small {mounted} || exit 77
        cp -a {tmp_path}/copy/. {mounted}/
        sh {job.script}; code=$?
        cat {job.directory}/.execd/exit >&2
        exit $code
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", steps], capture_output=True, text=True, timeout=20
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small file system is not allowed here")
    assert done.returncode == 1
    assert "cannot write .execd/exit; the command ended with 1" in done.stderr
    assert "code=" not in done.stderr


@pytest.mark.parametrize(("how", "started"), [("foreground", 1), ("", 2)])
def test_the_script_starts_no_process_but_the_command_and_env_where_that_is_needed(make: Make, how: str, started: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    job = make(["true"])
    calls = "trace=fork,vfork,clone,clone3"
    argv = ["strace", "-f", "-qq", "-e", calls, *job.argv, *([how] if how else [])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert (done.returncode, job.record().code) == (0, 0)
    assert len([line for line in done.stderr.splitlines() if "clone" in line or "fork" in line]) == started, done.stderr


INTERRUPTED = {
    "a shell": ["bash", "-c", 'trap "exit 3" INT; kill -INT $$; sleep 1; echo survived'],
    "its children": "bash -c 'trap \"exit 3\" INT; kill -INT $$; sleep 1; echo survived'",
    "Python": [
        sys.executable,
        "-c",
        "import os, sys\ntry: os.kill(os.getpid(), 2)\nexcept KeyboardInterrupt: sys.exit(3)\nprint('survived')",
    ],
    "a program of an odd name": ["./a=b"],
}


@pytest.mark.parametrize("how", ["", "foreground"])
@pytest.mark.parametrize("what", INTERRUPTED)
def test_a_command_hears_an_interrupt_as_anywhere_else(make: Make, what: str, how: str) -> None:
    odd = "#!/bin/bash\ntrap 'exit 3' INT; kill -INT $$; sleep 1; echo survived"
    job = make(INTERRUPTED[what], inputs={"a=b": odd}, env={"PATH": os.environ["PATH"]})
    job.argv += [how] if how else []
    assert job.end()[1].code == 3, job.text("stdout") + job.text("stderr")


def test_where_env_cannot_help_the_command_runs_all_the_same(make: Make) -> None:
    job = make("echo ran", inputs={"bin/env": "#!/bin/sh\nexit 125"})
    with_path = {"PATH": f"{job.directory}/bin:{os.environ['PATH']}"}
    done = subprocess.run(job.argv, env=with_path, cwd="/", capture_output=True, timeout=20, check=False)
    assert (done.returncode, job.text("stdout"), job.text("stderr")) == (0, "ran\n", "")


@pytest.mark.parametrize("name", ["TERM", "USR1"])
def test_a_signal_before_a_command_in_the_foreground_was_started_ends_it_unstarted(make: Make, name: str) -> None:
    job = make("echo ran >ran; exec sleep 30")
    job.script.write_text(job.script.read_text().replace("set +C\n", f"set +C\nkill -s {name} $$\n", 1))
    job.argv.append("foreground")
    assert job.end()[1].signal == f"SIG{name}"
    assert job.text("ran") == ""


def test_the_exit_record_appears_at_once(make: Make) -> None:
    """Whoever reads at any time finds no record or a whole one."""
    job = make(["true"])
    with job.started() as script:
        while script.poll() is None:
            record = read_exit_record(job.directory)
            assert record is None or (record.code, record.host) == (0, os.uname().nodename)
    assert job.record().code == 0
