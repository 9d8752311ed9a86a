"""Whose an engine's files are, and as whom it runs: the same answer from `check`, `start` and `doctor`, whoever calls."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from site import getsitepackages
from typing import Any

import pytest

from tests.support import engines
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import ROOT, Engine

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become other users and give files away: run bin/test as root"
)

USER, OTHER = pwd.getpwnam("games"), pwd.getpwnam("daemon")
SLOTS = {"here": {"class": "Local", "slots": 2}}


@pytest.fixture(autouse=True)
def _everybody_can_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users may not be able to enter the directory of this very Python, as in /root."""
    here = Path(sys.executable).resolve()
    python = here if all(place.stat().st_mode & 0o001 for place in (here, *here.parents)) else Path("/usr/bin/python3")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(getsitepackages()))
    probe = [*as_user(USER), "env", str(python), str(ROOT / "bin/execd"), "--version"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("other users cannot run this Python or this checkout: put both where everybody can read them")
    monkeypatch.setattr(engines, "EXECD", [str(python), str(ROOT / "bin/execd")])


def as_user(user: pwd.struct_passwd) -> tuple[str, ...]:
    """Before a command: really as this user, without root's powers."""
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "env", f"HOME={user.pw_dir}")


def give(user: pwd.struct_passwd, *paths: Path) -> None:
    for path in paths:
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(path)], check=True)


@pytest.fixture
def make_site(make_engine: MakeEngine, short_dir: Path) -> Callable[..., Engine]:
    """An engine whose configuration is root's and whose state is below `state`, which belongs to USER."""

    def make(**settings: Any) -> Engine:
        short_dir.chmod(0o755)
        engine = make_engine(
            **{
                "database": {"url": "sqlite:///state/execd.db"},
                "jobs_dir": "state/jobs",
                "run_dir": "state/run",
                "log": {"file": "state/log"},
                "execution_systems": SLOTS,
            }
            | settings
        )
        (engine.directory / "state").mkdir(mode=0o711)
        give(USER, engine.directory / "state")
        return engine

    return make


def refusals(engine: Engine, what: str, through: tuple[str, ...] = ()) -> None:
    """Neither of the three lets it pass, each says the same, and none makes anything."""
    start, check, doctor = (engine.execd(word, check=False, through=through) for word in ("start", "check", "doctor"))
    assert (start.returncode, check.returncode, doctor.returncode) == (5, 1, 1), start.stderr + check.stderr + doctor.stdout
    for said in (start.stderr, check.stderr, doctor.stdout):
        assert what in said, said
    assert engine.execd("status", check=False, through=through).returncode == 3


def test_root_starts_no_engine_on_the_state_of_another_user(make_site: Callable[..., Engine]) -> None:
    engine = make_site()
    engine.execd("start", through=as_user(USER))
    engine.execd("submit", "--", "true", through=as_user(USER))
    engine.execd("stop", through=as_user(USER))
    refusals(engine, f"belongs to user {USER.pw_name}, who could change it; run this as that user: runuser -u {USER.pw_name}")
    assert "chown" not in engine.execd("doctor", check=False).stdout
    assert {path.stat().st_uid for path in (engine.directory / "state").rglob("*")} == {USER.pw_uid}


@pytest.mark.parametrize("key", ["database", "jobs_dir", "run_dir"])
def test_one_thing_of_another_user_is_enough(make_site: Callable[..., Engine], key: str) -> None:
    engine = make_site(user=USER.pw_name)
    engine.start()
    engine.stop()
    thing = engine.directory / "state" / {"database": "execd.db", "jobs_dir": "jobs", "run_dir": "run"}[key]
    give(OTHER, thing)
    start = engine.execd("start", check=False)
    assert start.returncode == 5
    assert f"{engine.file}" in start.stderr
    assert f"{key}: {thing}: not used, because it belongs to user {OTHER.pw_name}" in start.stderr
    for word in ("check", "doctor"):
        done = engine.execd(word, check=False)
        assert f"it belongs to user {OTHER.pw_name}" in done.stdout + done.stderr
    give(USER, thing)
    engine.start()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_jobs_dir_that_others_can_write_is_refused(make_site: Callable[..., Engine], mode: int) -> None:
    engine = make_site(user=USER.pw_name)
    jobs = engine.directory / "state/jobs"
    jobs.mkdir()
    give(USER, jobs)
    jobs.chmod(mode)
    refusals(engine, f"others could change it (mode {mode:04o})")
    jobs.chmod(0o711)
    jobs.parent.chmod(mode | 0o11)
    if mode != 0o1777:
        refusals(engine, f"others could change {jobs.parent}")
    jobs.parent.chmod(0o711)
    engine.start()


def test_a_database_that_another_user_planted_in_a_sticky_directory_is_refused_and_its_job_is_not_run(
    make_site: Callable[..., Engine], short_dir: Path
) -> None:
    sticky = short_dir / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    engine = make_site(database={"url": f"sqlite:///{sticky}/execd.db"})
    theirs = Engine(short_dir / "theirs", database={"url": f"sqlite:///{short_dir}/theirs/planted.db"})
    give(OTHER, theirs.directory)
    theirs.execd("submit", "--", "touch", f"{short_dir}/ran", through=as_user(OTHER))
    planted = shutil.move(theirs.directory / "planted.db", sticky / "execd.db")
    assert Path(planted).stat().st_uid == OTHER.pw_uid
    Path(planted).chmod(0o666)
    refusals(engine, f"{sticky}/execd.db: not used, because others could change", through=as_user(USER))
    done = engine.execd("submit", "--", "true", check=False, through=as_user(USER))
    assert done.returncode == 1
    assert "is not used, because others could change" in done.stderr
    assert not (short_dir / "ran").exists()


def test_an_engine_that_root_starts_becomes_the_user_that_its_configuration_names(make_site: Callable[..., Engine]) -> None:
    engine = make_site(user=USER.pw_name)
    assert "as root" not in engine.execd("start").stderr
    assert {process.uids() for process in engine.processes()} == {(USER.pw_uid,) * 3}
    assert {process.gids() for process in engine.processes()} == {(USER.pw_gid,) * 3}
    assert engine.execd("check").returncode == 0
    script = "id -u; id -G; echo $HOME $USER $LOGNAME; ls -l .."
    job = engine.execd("submit", "--wait", "--", "sh", "-c", script).stdout.split()[0]
    said = engine.execd("logs", job).stdout.splitlines()
    assert said[:3] == [f"{USER.pw_uid}", f"{USER.pw_gid}", f"{USER.pw_dir} {USER.pw_name} {USER.pw_name}"]
    assert '"owner": "root"' in engine.execd("show", "--json", job).stdout
    assert engine.execd("reload").returncode == 0
    assert "as root" not in engine.execd("restart").stderr
    assert engine.execd("doctor").returncode == 0
    assert engine.execd("status").returncode == 0
    engine.stop()
    assert {path.stat().st_uid for path in (engine.directory / "state").rglob("*")} == {USER.pw_uid}


def test_root_is_told_that_jobs_are_roots_unless_the_configuration_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine(execution_systems=SLOTS)
    warning = "the engine runs as root, and so does every job: let `user:`"
    assert warning in engine.execd("start").stderr
    assert warning in engine.execd("restart").stderr
    for word in ("check", "doctor"):
        assert warning in engine.execd(word).stdout
    engine.change(user="root")
    for word in ("restart", "check", "doctor"):
        done = engine.execd(word)
        assert warning not in done.stdout + done.stderr


def test_who_cannot_become_the_user_is_told_so(make_site: Callable[..., Engine]) -> None:
    engine = make_site(user=OTHER.pw_name)
    refusals(engine, f"the engine is to run as {OTHER.pw_name}, whom {USER.pw_name} cannot become", through=as_user(USER))
    engine.change(user="nobody-at-all")
    for word in ("start", "check"):
        done = engine.execd(word, check=False)
        assert done.returncode == 5
        assert "user: there is no user nobody-at-all on this machine" in done.stderr


def test_what_the_user_lacks_is_told_with_the_command_that_mends_it(make_engine: MakeEngine, short_dir: Path) -> None:
    short_dir.chmod(0o755)
    engine = make_engine(user=USER.pw_name, execution_systems=SLOTS)
    done = engine.execd("start", check=False)
    assert done.returncode == 5
    assert f"it belongs to root, not to the engine's user; as root: chown {USER.pw_name} {engine.directory}/run" in done.stderr
    for name in ("run", "jobs"):
        (engine.directory / name).rmdir()
    done = engine.execd("start", check=False)
    advice = f"as root: install -d -m 700 -o {USER.pw_name}"
    assert f"{engine.directory}/run cannot be made: Permission denied; {advice} {engine.directory}/run" in done.stderr
    assert f"{advice} {engine.directory}/jobs" in engine.execd("check", check=False).stderr


def test_a_reload_refuses_a_jobs_dir_that_others_can_change(make_site: Callable[..., Engine], short_dir: Path) -> None:
    engine = make_site(user=USER.pw_name)
    engine.start()
    (short_dir / "theirs").mkdir()
    give(OTHER, short_dir / "theirs")
    engine.change(jobs_dir=str(short_dir / "theirs"))
    done = engine.execd("reload", check=False)
    assert done.returncode == 5
    assert f"jobs_dir: {short_dir}/theirs: not used, because it belongs to user {OTHER.pw_name}" in done.stderr


def test_a_umask_that_lets_the_group_write_makes_nothing_that_is_refused(make_site: Callable[..., Engine]) -> None:
    engine = make_site(
        user=USER.pw_name,
        database={"url": "sqlite:///state/a/b/execd.db"},
        jobs_dir="state/c/d/jobs",
        run_dir="state/r/u/run",
    )
    engine.execd("start", umask=0o002)
    engine.execd("restart", umask=0o002)
    engine.stop()
    made = engine.directory / "made/here"
    engine.execd("init", str(made), configured=False, umask=0o002)
    assert {path.stat().st_mode & 0o022 for path in (made, made.parent, *made.rglob("*"))} == {0}


def test_root_ends_no_process_because_of_a_run_directory_of_another_user(make_site: Callable[..., Engine]) -> None:
    """Whoever can write there could name any process."""
    engine = make_site(user=USER.pw_name)
    engine.start()
    master = engine.master()
    engine.change(user="nobody-at-all")
    for word in ("stop", "reload"):
        done = engine.execd(word, check=False)
        assert done.returncode == 5
        assert "there is no user nobody-at-all" in done.stderr
        assert f"belongs to user {USER.pw_name}, who could change it; run this as that user: runuser -u" in done.stderr
    assert master.is_running()
    engine.change(user=USER.pw_name)
    engine.stop()
    assert engine.execd("status", check=False).returncode == 3


def test_who_meets_the_engine_of_root_is_told_to_call_as_root_and_never_to_take_its_files(
    make_engine: MakeEngine, short_dir: Path
) -> None:
    short_dir.chmod(0o755)
    engine = make_engine(execution_systems=SLOTS)
    engine.start()
    for words in (["jobs"], ["submit", "--", "true"], ["logs", "1"], ["doctor"], ["status"], ["stop"], ["check"]):
        done = engine.execd(*words, check=False, through=as_user(USER))
        said = done.stdout + done.stderr
        assert done.returncode == 1, f"{words}: {said}"
        assert "run this as that user" in said, f"{words}: {said}"
        for wrong in ("chown", "install -d", "pid 0", "Traceback"):
            assert wrong not in said, f"{words}: {said}"
    assert f"cannot be seen by user {USER.pw_name}" in engine.execd("doctor", check=False, through=as_user(USER)).stdout
    engine.stop()


def test_a_user_who_cannot_read_execd_is_told_which_directory_is_closed(
    make_engine: MakeEngine, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_dir.chmod(0o755)
    engine = make_engine(user=USER.pw_name, execution_systems=SLOTS)
    away = short_dir / "closed"
    for name in ("bin", "execution_engine"):
        shutil.copytree(ROOT / name, away / name)
    away.chmod(0o700)
    monkeypatch.setattr(engines, "EXECD", [engines.EXECD[0], str(away / "bin/execd")])
    for words in (["jobs"], ["submit", "--", "true"], ["status"], ["stop"], ["reload"], ["start"], ["check"], ["doctor"]):
        done = engine.execd(*words, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1), f"{words}: {done.stdout}{done.stderr}"
        assert f"user: {USER.pw_name} cannot run execd: {away} is closed to that user" in done.stderr


def test_a_log_that_is_a_device_needs_no_directory_to_write_in(make_site: Callable[..., Engine]) -> None:
    """/dev is root's."""
    engine = make_site(user=USER.pw_name, log={"file": "/dev/null"})
    engine.execd("check")
    engine.start()
    engine.stop()
