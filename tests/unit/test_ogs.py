"""What the Grid Engine system makes of what its commands say; here they are scripts that say what a test wants."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from execution_engine.config import load
from execution_engine.engine.assembly import assemble
from execution_engine.errors import ExecutionSystemError
from execution_engine.jobs.exit_record import ExitRecord
from execution_engine.jobs.status import Status
from execution_engine.systems import drmaa
from execution_engine.systems.execution_systems import Health
from execution_engine.systems.ogs import OGS
from tests.support.command_site import CommandSite

ROOT = Path(__file__).parents[2]
CAPTURED = Path(__file__).parent / "gridengine_output"


class Site(CommandSite):
    """One with a Grid Engine's commands."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, "cluster")
        self.system = OGS(self.context, OGS.Options.model_validate({"commands": str(self.commands), "timeout": 5, **options}))
        self.system.user = "alice"

    def prints(self, name: str, file: str, code: int = 0) -> None:
        self.command(name, f"cat {CAPTURED / file}; exit {code}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_one_listing_tells_the_status_of_all_jobs(site: Site) -> None:
    site.prints("qstat", "qstat.xml")
    jobs = [site.job(name) for name in ("run", "sus", "eqw", "wait", "hold", "gone")]
    assert site.system.get_statuses(jobs) == {
        "run": Status.RUNNING,
        "sus": Status.SUSPENDED,
        "eqw": Status.ERROR,
        "wait": Status.PENDING,
        "hold": Status.HOLD,
        "gone": Status.UNKNOWN,
    }
    assert site.calls() == ["qstat -xml -s prs -u *"]


def test_a_job_that_another_account_planted_under_the_name_is_none_of_ours(site: Site) -> None:
    site.command("qstat", f"sed 's/alice/mallory/' {CAPTURED}/qstat.xml")
    site.command("qacct", f"sed 's/alice/mallory/' {CAPTURED}/qacct-code.txt")
    job = site.job("run")
    site.started(job)
    assert site.system.get_status(job) is Status.UNKNOWN
    assert site.system.find(job) is None
    assert site.system.native_ids(job) == []
    assert site.system.account(job, None) is None


def test_a_job_in_an_unknown_state_is_left_as_it_is(site: Site) -> None:
    site.command("qstat", f"sed 's/>r</>xyz</' {CAPTURED / 'qstat.xml'}")
    job = site.job("run")
    assert site.system.get_statuses([job]) == {}
    assert site.system.get_status(job) is job.status


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'error: commlib error' >&2; exit 1", "commlib error"),
        (f"head -c 700 {CAPTURED / 'qstat.xml'}", "no XML"),
        ("exit 0", "no XML"),
        (f"cat {CAPTURED / 'qstat.xml'}; exit 1", "ended with 1"),
        ("kill -9 $$", "ended with -9"),
    ],
)
def test_a_listing_that_fails_or_is_cut_short_is_an_outage(site: Site, script: str, words: str) -> None:
    site.command("qstat", script)
    job = site.job("run")
    for ask in (site.system.get_status, site.system.find, site.system.kill):
        with pytest.raises(ExecutionSystemError, match=words) as caught:
            ask(job)
        assert caught.value.transient


def test_a_command_that_hangs_is_ended_and_an_outage(tmp_path: Path) -> None:
    site = Site(tmp_path, timeout="0.2s")
    site.command("qstat", "exec sleep 60")
    began = time.monotonic()
    with pytest.raises(ExecutionSystemError, match="no answer") as caught:
        site.system.get_status(site.job("run"))
    assert caught.value.transient
    assert time.monotonic() - began < 5


def test_a_command_that_is_missing_is_an_outage_that_names_it(site: Site) -> None:
    with pytest.raises(ExecutionSystemError, match=r"cannot run qconf in .*commands: No such file") as caught:
        site.system.check()
    assert caught.value.transient


def test_a_qmaster_that_does_not_answer_is_not_healthy(site: Site) -> None:
    site.command("qconf", "echo 'unable to send message to qmaster' >&2; exit 1")
    health = site.system.probe()
    assert not health.ok
    assert "unable to send" in health.message


def test_a_system_whose_session_is_lost_is_not_healthy_in_this_process(site: Site) -> None:
    site.command("qconf", "exit 0")
    site.system._session.lost = "cluster gave no answer to a submission"
    assert site.system.probe() == Health(False, "cluster gave no answer to a submission")


def test_a_job_is_found_by_its_name_in_the_queue(site: Site) -> None:
    site.prints("qstat", "qstat.xml")
    assert site.system.find(site.job("eqw")) == "376"


def test_one_listing_serves_to_find_many_jobs(site: Site) -> None:
    site.prints("qstat", "qstat.xml")
    assert [site.system.find(site.job(f"new{number}")) for number in range(20)] == [None] * 20
    assert site.calls() == ["qstat -xml -s prs -u *"]


def test_one_listing_serves_to_kill_many_jobs_that_have_left_the_queue(site: Site) -> None:
    site.command("qstat", f"sleep 0.6; cat {CAPTURED / 'qstat-empty.xml'}")  # longer than a listing counts as recent
    site.system.begin_batch()
    for number in range(5):
        site.system.kill(site.job(f"left{number}"))
    assert site.calls() == ["qstat -xml -s prs -u *"]


def test_a_job_that_is_not_listed_yet_is_looked_for_in_each_batch_anew(site: Site) -> None:
    job = site.job("run")
    site.prints("qstat", "qstat-empty.xml")
    site.system.begin_batch()
    assert site.system.native_ids(job) == []
    site.prints("qstat", "qstat.xml")
    site.system.begin_batch()
    assert site.system.native_ids(job) == ["373"]


def test_a_job_that_was_started_and_left_the_queue_is_found_in_the_accounting(site: Site) -> None:
    site.prints("qstat", "qstat-empty.xml")
    site.prints("qacct", "qacct-code.txt")
    job = site.job("code")
    assert site.system.find(job) is None
    site.started(job)
    assert site.system.find(job) is not None
    assert site.calls()[-1] == "qacct -o alice -j execd-code-1"


def test_an_accounting_that_cannot_be_asked_does_not_prove_that_a_job_is_not_there(site: Site) -> None:
    site.prints("qstat", "qstat-empty.xml")
    site.command("qacct", "echo 'error: cannot open the accounting file' >&2; exit 1")
    job = site.job("code")
    site.started(job)
    with pytest.raises(ExecutionSystemError, match="cannot open") as caught:
        site.system.find(job)
    assert caught.value.transient
    account = site.system.account(job, None)
    assert account is not None
    assert (account.reason, account.code) == (None, None)
    assert "cannot open" in account.message


def test_many_jobs_that_are_gone_are_asked_about_in_one_qacct(site: Site) -> None:
    site.prints("qstat", "qstat-empty.xml")
    site.command("qacct", f"for id in $(seq 100 129); do sed s/execd-code-1/execd-$id-1/ {CAPTURED}/qacct-code.txt; done")
    jobs = [site.job(f"{number}") for number in range(110, 131)]
    for job in jobs:
        site.started(job)
    accounts = {job.text_id: account for job, account in site.system.accounts(jobs)}
    assert {name: account.code if account else None for name, account in accounts.items()} == {
        **{f"{number}": 3 for number in range(110, 130)},
        "130": None,
    }
    assert [native for _, native in site.system.find_many(jobs)] == ["364"] * 20 + [None]
    asked = [call for call in site.calls() if call.startswith("qacct")]
    assert asked == ["qacct -o alice -j execd-1[123][0123456789]-1"] * 2


def test_nothing_is_said_of_the_end_of_a_job_while_the_queue_cannot_be_asked(site: Site) -> None:
    site.command("qstat", "exit 1")
    assert list(site.system.accounts([site.job("a"), site.job("b")])) == []


def test_a_command_that_takes_long_is_told_of_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drmaa, "_SLOW", 0.2)
    site = Site(tmp_path, accounting_timeout="0.5s")
    site.prints("qstat", "qstat-empty.xml")
    site.command("qacct", "exec sleep 60")
    job = site.job("code")
    site.started(job)
    assert list(site.system.accounts([job])) == [], "what gives no answer decides nothing"
    assert "qacct takes" in site.system.slow()


def test_a_record_of_the_job_itself_makes_the_accounting_superfluous(site: Site) -> None:
    assert site.system.account(site.job("code"), ExitRecord(0, 1, "node1")) is None
    assert site.calls() == []


def test_a_job_that_left_without_a_record_is_explained_by_the_accounting(site: Site) -> None:
    site.prints("qstat", "qstat-empty.xml")
    site.prints("qacct", "qacct-walltime.txt")
    account = site.system.account(site.job("walltime"), None)
    assert account is not None
    assert account.reason == "walltime"


def test_the_accounting_is_not_asked_about_a_job_that_was_deleted_while_it_waited(site: Site) -> None:
    site.prints("qstat", "qstat-empty.xml")
    job = site.job("code", requested={"what": "kill", "at": datetime.now(UTC), "sent": True})
    assert site.system.account(job, None) is None
    assert not any(call.startswith("qacct") for call in site.calls())


def test_the_documented_configuration_is_good(tmp_path: Path) -> None:
    file = tmp_path / "execd.yaml"
    shutil.copy(ROOT / "docs/samples/gridengine.yaml", file)
    file.chmod(0o600)
    plan = assemble(load(file)).systems["cluster"]
    assert plan.cls is OGS
    assert plan.environment()["SGE_QMASTER_PORT"] == "6444"


def test_the_environment_names_the_cell_and_the_library() -> None:
    options = OGS.Options.model_validate(
        {
            "root": "/opt/sge",
            "cell": "main",
            "qmaster_port": 536,
            "drmaa_library": "/opt/lib.so",
            "environment": {"LD_LIBRARY_PATH": "/opt"},
        }
    )
    environment = OGS.environment(options)
    assert environment["SGE_ROOT"] == "/opt/sge"
    assert environment["SGE_CELL"] == "main"
    assert environment["SGE_QMASTER_PORT"] == "536"
    assert environment["DRMAA_LIBRARY_PATH"] == "/opt/lib.so"
    assert environment["LD_LIBRARY_PATH"] == "/opt"
    assert "SGE_QMASTER_PORT" not in OGS.environment(OGS.Options())
