"""What the Torque system asks of a server, and makes of what its commands say."""

from __future__ import annotations

import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from execution_engine.config import load
from execution_engine.engine.assembly import assemble
from execution_engine.errors import ConfigError, ExecutionSystemError, NotSupported, SystemClosed, SystemFull
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.job import Job
from execution_engine.jobs.status import Status
from execution_engine.systems.drmaa_session import Refused
from execution_engine.systems.execution_systems import Context
from execution_engine.systems.torque import Torque
from tests.support.command_site import CommandSite

ROOT = Path(__file__).parents[2]
LISTING = Path(__file__).parent / "torque_output" / "qstat.xml"


class Site(CommandSite):
    """One with a Torque server's commands."""

    job_no = "1.head01"

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, "pbs")
        given = {"commands": str(self.commands), "drmaa_library": "/opt/libdrmaa.so", "timeout": 5, **options}
        self.system = Torque(self.context, Torque.Options.model_validate(given))
        self.system.user = "execd"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_one_listing_tells_the_status_of_all_jobs(site: Site) -> None:
    site.command("qstat", f"cat {LISTING}")
    site.command("qselect", "exit 0")
    jobs = [site.job(name) for name in ("run", "wait", "hold", "later", "over", "done", "gone")]
    assert site.system.get_statuses(jobs) == {
        "run": Status.RUNNING,
        "wait": Status.PENDING,
        "hold": Status.HOLD,
        "later": Status.PENDING,
        "over": Status.ERROR,
        "done": Status.FINISHED,
        "gone": Status.UNKNOWN,
    }
    assert site.calls() == ["qstat -f -x", "qselect -u execd -N execd-gone-1"]


@pytest.mark.parametrize("listing", ["exit 0", f"sed 's/execd-run-1/other/g' {LISTING}"])
def test_a_listing_that_leaves_out_a_job_that_is_there_is_an_outage(site: Site, listing: str) -> None:
    site.command("qstat", listing)
    site.command("qselect", "echo 12.head01")
    with pytest.raises(ExecutionSystemError, match="left out execd-run") as caught:
        site.system.get_status(site.job("run"))
    assert caught.value.transient


def test_a_job_that_another_account_planted_under_the_name_is_none_of_ours(site: Site) -> None:
    site.command("qselect", "exit 0")
    site.command("qstat", f"sed 's/execd@/mallory@/g' {LISTING}")
    job = site.job("run")
    assert site.system.get_status(job) is Status.UNKNOWN
    assert site.system.find(job) is None


def test_a_job_without_a_name_keeps_no_other_from_being_asked_about(site: Site) -> None:
    site.command("qselect", "exit 0")
    site.command("qstat", f"cat {LISTING}")
    nameless = site.job("nameless")
    nameless = nameless.model_copy(update={"execution": nameless.execution.model_copy(update={"name": None})})
    assert site.system.get_statuses([nameless, site.job("run")]) == {"nameless": Status.UNKNOWN, "run": Status.RUNNING}


def test_an_id_counts_only_with_the_name_of_the_job(site: Site) -> None:
    site.command("qselect", "exit 0")
    site.command("qstat", f"sed 's/12.head01/1.head01/' {LISTING}")
    assert site.system.get_status(site.job("stranger")) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'qstat: cannot connect to server head01 (errno=111)' >&2; exit 111", "cannot connect"),
        ("echo 'qstat: cannot connect to server head01 (errno=15104)' >&2; exit 0", "cannot connect"),
        (f"head -c 700 {LISTING}", "no whole list"),
        (f"cat {LISTING}; exit 1", "ended with 1"),
        ("kill -9 $$", "ended with -9"),
    ],
)
def test_a_listing_that_fails_or_is_cut_short_is_an_outage(site: Site, script: str, words: str) -> None:
    site.command("qstat", script)
    with pytest.raises(ExecutionSystemError, match=words) as caught:
        site.system.get_status(site.job("run"))
    assert caught.value.transient


def test_a_command_that_hangs_is_ended_and_an_outage(tmp_path: Path) -> None:
    site = Site(tmp_path, timeout="0.2s")
    site.command("qstat", f"cat {LISTING}")
    site.command("qselect", "exec sleep 60")
    began = time.monotonic()
    for ask in (site.system.find, site.system.kill):
        with pytest.raises(ExecutionSystemError, match="qselect gave no answer") as caught:
            ask(site.job(ask.__name__))
        assert caught.value.transient
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("script", ["echo 'cannot connect' >&2; exit 111", "exit 0", "exec sleep 60"])
def test_a_server_that_does_not_answer_is_seen_before_the_library_is_loaded(tmp_path: Path, script: str) -> None:
    site = Site(tmp_path, timeout="0.3s")
    site.command("qstat", script)
    with pytest.raises(ExecutionSystemError, match="qstat") as caught:
        site.system.check()
    assert caught.value.transient
    assert not site.system.probe().ok


def test_one_listing_serves_to_find_many_jobs(site: Site) -> None:
    site.command("qstat", f"sleep 0.6; cat {LISTING}")  # longer than a listing counts as recent
    jobs = [site.job(name) for name in ("run", "wait", "hold")]
    assert [site.system.find(job) for job in jobs * 5] == ["12.head01", "13.head01", "14.head01"] * 5
    assert site.calls() == ["qstat -f -x"]


def test_a_job_that_the_listing_leaves_out_is_found_by_its_name_only(site: Site) -> None:
    site.command("qstat", f"cat {LISTING}")
    site.command("qselect", '[ "$4" != execd-here-1 ] || echo 7.head01')
    assert site.system.find(site.job("here")) == "7.head01"
    assert site.system.find(site.job("nowhere")) is None
    assert site.calls() == ["qstat -f -x", "qselect -u execd -N execd-here-1", "qselect -u execd -N execd-nowhere-1"]


def test_a_job_that_cannot_be_looked_up_is_not_said_to_be_absent(site: Site) -> None:
    site.command("qstat", f"cat {LISTING}")
    site.command("qselect", "echo 'qselect: cannot connect' >&2; exit 111")
    with pytest.raises(ExecutionSystemError, match="cannot connect") as caught:
        site.system.find(site.job("here"))
    assert caught.value.transient


# --- control


def test_every_copy_of_a_job_is_killed(site: Site) -> None:
    site.command("qselect", '[ "$6" = C ] || printf "7.head01\\n8.head01\\n"')
    site.command("qdel", "exit 0")
    site.system.kill(site.job("twice"))
    assert [call for call in site.calls() if call.startswith("qdel")] == ["qdel 7.head01", "qdel 8.head01"]


def test_a_kill_of_a_job_that_ends_meanwhile_is_no_error(site: Site) -> None:
    site.command("qselect", f'[ -e {site.directory}/gone ] || [ "$6" = C ] || echo 7.head01')
    site.command("qdel", f"touch {site.directory}/gone; echo 'qdel: Request invalid for state of job' >&2; exit 170")
    site.system.kill(site.job("short"))


@pytest.mark.parametrize(
    ("code", "complaint", "transient"),
    [
        (111, "qdel: cannot connect to server head01 (errno=111) Connection refused", True),
        (224, "qdel: Server could not connect to MOM 7.head01", True),
        (224, "", True),
        (153, "qdel: Unknown Job Id Error 7.head01", True),
        (170, "qdel: Request invalid for state of job 7.head01", True),
        (159, "qdel: Unauthorized Request 7.head01", False),
        (1, "qdel: Unauthorized Request 7.head01", True),
    ],
)
def test_by_its_code_a_kill_is_sent_again_or_refused(site: Site, code: int, complaint: str, transient: bool) -> None:
    site.command("qselect", '[ "$6" = C ] || echo 7.head01')
    site.command("qdel", f"printf '%s' '{complaint}' >&2; exit {code}")
    with pytest.raises(ExecutionSystemError, match=re.escape(complaint) or "qdel says: nothing") as caught:
        site.system.kill(site.job("busy"))
    assert caught.value.transient is transient


def test_a_suspended_job_which_qselect_has_in_no_state_is_killed(site: Site) -> None:
    site.command("qselect", '[ "$5" ] || echo 7.head01')
    site.command("qdel", "exit 0")
    site.system.kill(site.job("stopped"))
    assert "qdel 7.head01" in site.calls()


def test_a_hold_that_torque_takes_and_does_not_do_is_refused(site: Site) -> None:
    site.command("qselect", 'case $* in *"-N execd-run-1 -s H" | *"-s C") ;; *) echo 12.head01 ;; esac')
    site.command("qhold", "exit 0")
    with pytest.raises(ExecutionSystemError, match="took the hold of run, which is not held") as caught:
        site.system.hold(site.job("run"))
    assert not caught.value.transient
    site.system.hold(site.job("hold"))
    assert not [call for call in site.calls() if call.startswith("qstat")], "no listing of all jobs for each"


def test_a_release_is_done_when_the_server_says_so(site: Site) -> None:
    site.command("qselect", 'case $* in *"-N execd-wait-1 -s H" | *"-s C") ;; *) echo 14.head01 ;; esac')
    site.command("qrls", "exit 0")
    with pytest.raises(ExecutionSystemError, match="which is held all the same"):
        site.system.release(site.job("hold"))
    site.system.release(site.job("wait"))


def test_a_job_that_is_gone_cannot_be_held(site: Site) -> None:
    site.command("qselect", "exit 0")
    with pytest.raises(ExecutionSystemError, match="has gone no longer"):
        site.system.hold(site.job("gone"))


def test_suspending_is_for_operators_and_done_when_the_job_does_not_run_any_more(site: Site) -> None:
    site.command("qselect", 'case $* in *" -s "*) ;; *) echo 14.head01 ;; esac')
    site.command("qsig", f"[ -e {site.directory}/operator ] || exit 159")
    for refused in (site.system.suspend, site.system.resume):
        with pytest.raises(NotSupported, match=f"only its operators {refused.__name__} jobs, such as {refused.__name__}"):
            refused(site.job(refused.__name__))
    (site.directory / "operator").touch()
    job = site.job("run")
    site.system.suspend(job)
    site.system.resume(job)
    assert [call for call in site.calls() if call.startswith("qsig")][2:] == [
        "qsig -s suspend 14.head01",
        "qsig -s resume 14.head01",
    ]
    site.command("qselect", '[ "$6" = C ] || echo 14.head01')
    with pytest.raises(ExecutionSystemError, match="which is running all the same"):
        site.system.suspend(job)


# --- the end of a job


def test_a_job_that_left_without_a_record_is_explained_by_the_listing_that_told_it(site: Site) -> None:
    site.command("qstat", f"cat {LISTING}")
    job = site.job("over")
    site.started(job)
    assert site.system.get_status(job) is Status.ERROR
    account = site.system.account(job, None)
    assert account is not None
    assert (account.reason, account.usage.host if account.usage else None) == ("walltime", "node2")
    assert site.calls() == ["qstat -f -x"]


def test_a_server_that_hangs_is_waited_for_once_for_all_that_signals_ended(tmp_path: Path) -> None:
    site = Site(tmp_path, timeout="0.2s")
    site.command("qstat", "exec sleep 60")
    jobs = [site.job(f"ended{number}") for number in range(5)]
    assert [site.system.account(job, ExitRecord(143, 1, "node1", wall=5.0)) for job in jobs] == [None] * 5
    assert site.calls() == ["qstat -f -x"]


def test_the_server_is_not_asked_about_a_command_that_ended_by_itself_or_was_killed_by_us(site: Site) -> None:
    assert site.system.account(site.job("good"), ExitRecord(0, 1, "node1")) is None
    assert site.system.account(site.job("bad"), ExitRecord(3, 1, "node1")) is None
    killed = site.job("killed", requested={"what": "kill", "at": datetime.now(UTC), "sent": True})
    assert site.system.account(killed, ExitRecord(143, 1, "node1")) is None
    assert site.calls() == []


def test_a_job_that_was_deleted_while_it_waited_has_no_account(site: Site) -> None:
    site.command("qstat", f"sed 's/-11/271/' {LISTING}")
    job = site.job("over", requested={"what": "kill", "at": datetime.now(UTC), "sent": True})
    assert site.system.get_status(job) is Status.ERROR
    assert site.system.account(job, None) is None


# --- submission


class Refusing:
    """A session whose library refuses every job in these words."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def submit(self, *_: object) -> str:
        raise self._error


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Maximum number of jobs already in queue for user MSG=total number of jobs exceeds the limit", SystemFull),
        ("pbs_submit: Maximum number of jobs already in queue", SystemFull),
        ("Bad UID for job execution MSG=root user root not allowed", SystemClosed),
        ("Queue is not enabled", SystemClosed),
        ("Unknown queue MSG=cannot locate queue", Refused),
        ("Unknown resource: trqauthd", Refused),
        ("Invalid native specification: -q Queue is not enabled", Refused),
    ],
)
def test_a_refusal_that_is_no_fault_of_the_job_lets_it_wait(
    site: Site, monkeypatch: pytest.MonkeyPatch, words: str, kind: type[ExecutionSystemError]
) -> None:
    monkeypatch.setattr(site.system, "_session", Refusing(Refused("pbs", words)))
    with pytest.raises(kind) as caught:
        site.system.run(site.job("j"))
    assert words in str(caught.value)
    assert type(caught.value) is kind
    assert caught.value.transient is (kind is not Refused)


@pytest.mark.parametrize("words", ["Queue is not enabled", "Maximum number of jobs already in queue"])
def test_a_job_that_names_a_queue_which_takes_none_waits_alone(site: Site, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr(site.system, "_session", Refusing(Refused("pbs", words)))
    alone, other = site.job("alone", resources={"native": "-q small"}), site.job("other")
    with pytest.raises(ExecutionSystemError, match=words) as caught:
        site.system.run(alone)
    assert type(caught.value) is ExecutionSystemError
    assert caught.value.transient
    outcomes = [type(outcome) for _, outcome in site.system.run_many([alone, other])]
    assert outcomes[0] is ExecutionSystemError
    assert outcomes[1] in (SystemFull, SystemClosed)


def test_an_option_with_control_characters_is_refused_and_one_on_two_lines_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    class Taking:
        def submit(self, _name: str, _script: Path, native: str) -> str:
            given.append(native)
            return "7.head01"

    monkeypatch.setattr(site.system, "_session", Taking())
    with pytest.raises(ExecutionSystemError, match="control characters") as caught:
        site.system.run(site.job("cut", resources={"native": "-A a\x07-N other"}))
    assert not caught.value.transient
    site.system.run(site.job("lines", resources={"native": "-A a\n-q fast"}))
    assert given == ["-r n -A a -q fast -N execd-lines-1"]


@pytest.mark.parametrize("name", ["a b", "a;b", "a'b", "a$b", "ä"])
def test_a_directory_whose_name_a_shell_would_take_apart_is_refused(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    site = Site(directory)
    job = site.job("j")
    with pytest.raises(ExecutionSystemError, match="choose another jobs_dir") as caught:
        site.system.run(job)
    assert not caught.value.transient


def asked(resources: dict[str, Any], /, **options: Any) -> str:
    given = {"drmaa_library": "/opt/libdrmaa.so", **options}
    system = Torque(Context("pbs", Path("/run")), Torque.Options.model_validate(given))
    document = {"_id": "j", "status": "submitting", "command": "x", "resources": resources, "execution": {"name": "execd-j-1"}}
    return system.native_specification(Job.from_document(document))


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "-r n -N execd-j-1"),
        ({"cores": 4}, "-r n -l nodes=1:ppn=4 -N execd-j-1"),
        ({"memory": "1G"}, "-r n -l mem=1073741824b,vmem=1073741824b -N execd-j-1"),
        ({"walltime": "1h"}, "-r n -l walltime=3600 -N execd-j-1"),
        ({"gpus": 1}, "-r n -l nodes=1:ppn=1:gpus=1 -N execd-j-1"),
        ({"cores": 2, "gpus": 1}, "-r n -l nodes=1:ppn=2 -l nodes=1:ppn=2:gpus=1 -N execd-j-1"),
        ({"native": "-N mine -q fast"}, "-r n -N mine -q fast -N execd-j-1"),
    ],
)
def test_resources_become_options_and_no_option_takes_the_name_away(resources: dict[str, Any], expected: str) -> None:
    assert asked(resources) == expected


def test_what_comes_later_wins_and_the_job_comes_last() -> None:
    text = asked({"walltime": 60, "native": "-l walltime=5"}, native_specification="-A project -l walltime=30")
    assert text == "-r n -l walltime=60 -A project -l walltime=30 -l walltime=5 -N execd-j-1"


# --- configuration


def test_the_documented_configuration_is_good(tmp_path: Path) -> None:
    file = tmp_path / "execd.yaml"
    shutil.copy(ROOT / "docs/samples/torque.yaml", file)
    file.chmod(0o600)
    plan = assemble(load(file)).systems["pbs"]
    assert plan.cls is Torque
    assert plan.environment()["PBS_DEFAULT"] == "head01.example.org"


def test_the_environment_names_the_server_and_bounds_the_librarys_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/execd")

    def environment(**options: Any) -> dict[str, str]:
        return Torque.environment(Torque.Options.model_validate({"drmaa_library": "/opt/lib.so", **options}))

    assert environment() == {"HOME": "/home/execd", "PBSAPITIMEOUT": "5", "DRMAA_LIBRARY_PATH": "/opt/lib.so"}
    assert environment(server_name="head01", timeout="2s") == {
        "PBS_DEFAULT": "head01",
        "HOME": "/home/execd",
        "PBSAPITIMEOUT": "3",
        "DRMAA_LIBRARY_PATH": "/opt/lib.so",
    }
    assert environment(environment={"PBSAPITIMEOUT": "9"})["PBSAPITIMEOUT"] == "9"


def test_a_jobs_dir_with_blanks_is_refused_before_any_job_is(tmp_path: Path) -> None:
    file = tmp_path / "execd.yaml"
    text = (ROOT / "docs/samples/torque.yaml").read_text()
    file.write_text(re.sub(r"^jobs_dir: .*", "jobs_dir: /srv/our jobs", text, flags=re.MULTILINE))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="jobs_dir: pbs, a Torque, can only run scripts whose path has no blanks") as caught:
        assemble(load(file))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"drmaa_library": "lib.so"}, {"drmaa_library": "/l", "server_name": "head 01"}])
def test_a_bad_configuration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Torque.Options.model_validate(options)
