"""The owner is told at the end, by a real mail server and a real web server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from execution_engine.config import Database
from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.servers import HOST, closed_port, mail_server, web_server


def told(engine: Engine, job_id: Any) -> dict[str, Any]:
    """The job, when its notification is done."""
    return until(
        lambda: (job := engine.job(job_id))["times"].get("notified") and job, "the owner was told\n" + engine.log()[-2000:]
    )


def test_owners_are_told_by_mail_and_by_webhook_how_their_jobs_ended(make_engine: MakeEngine) -> None:
    with mail_server() as mails, web_server() as hooks:
        engine = make_engine(
            notification={
                "targets": {
                    "owner": {
                        "url": f"mailto://127.0.0.1:{mails.port}/?from=execd@example.org&to={{owner}}@example.org&mode=insecure"
                    },
                    "hook": {"url": f"json://127.0.0.1:{hooks.port}/jobs"},
                },
                "default": ["owner", "hook"],
            }
        )
        engine.start()
        good, bad, quiet = engine.run(
            {"command": ["true"], "owner": "alice", "name": "good"},
            {"command": "echo the reason >&2; exit 3", "owner": "bob", "name": "bad"},
            {"command": ["true"], "owner": "carol", "name": "quiet", "notify": False},
        )
        assert set(told(engine, good["_id"])["notified"]) == {"owner", "hook"}
        told(engine, bad["_id"])
        assert sorted(mails.recipients) == [["alice@example.org"], ["bob@example.org"]]
        assert any("the reason" in mail.as_string() for mail in mails.mails)
        assert len(hooks.bodies) == 2
        assert not engine.job(quiet["_id"]).get("notified")


def test_a_target_that_fails_is_tried_again_and_does_not_hold_up_the_other(make_engine: MakeEngine) -> None:
    with closed_port() as port, web_server() as hooks:
        engine = make_engine(
            notification={
                "targets": {"dead": {"url": f"json://127.0.0.1:{port}/"}, "alive": {"url": f"json://127.0.0.1:{hooks.port}/"}},
                "default": ["dead", "alive"],
                "attempts": 3,
                "retry_delay": {"min": "0.2s", "max": "0.5s"},
            }
        )
        engine.start()
        (job,) = engine.run({"command": ["true"]})
        job = until(
            lambda: (now := engine.job(job["_id"])).get("notified", {}).get("dead", {}).get("attempts") == 3 and now,
            "three attempts",
        )
        assert job["notified"]["dead"]["error"]
        assert job["notified"]["alive"]["at"]
        assert len(hooks.bodies) == 1
        assert job["status"] == "finished"


@pytest.mark.parametrize("database", ["embedded", "mongodb"])
def test_what_was_given_up_is_named_by_doctor_and_sent_again_by_hand(
    make_engine: MakeEngine, database: str, request: pytest.FixtureRequest
) -> None:
    elsewhere: dict[str, Any] = {}
    if database == "mongodb":
        server: Database = request.getfixturevalue("mongodb_database")
        elsewhere = {"database": {"url": server.url, "name": server.name}}
    with closed_port() as port:
        engine = make_engine(
            **elsewhere,
            notification={
                "targets": {"hook": {"url": f"json://{HOST}:{port}/"}},
                "default": ["hook"],
                "attempts": 2,
                "retry_delay": {"min": "0.1s", "max": "0.1s"},
            },
        )
        engine.start()
        (job,) = engine.run({"command": ["true"], "owner": "alice"})
        until(lambda: (engine.job(job["_id"]).get("notified") or {}).get("hook", {}).get("given_up"), "it is given up")
        assert engine.job(job["_id"])["times"].get("notified") is None
        until(lambda: "owners were not told, given up" in engine.execd("doctor").stdout, "doctor names it")
        with web_server(port) as up:
            told_again = json.loads(engine.execd("notify", "--owner", "alice", "--yes", "--json").stdout)
            assert told_again == {"asked": [str(job["_id"])], "refused": {}}
            now = told(engine, job["_id"])
            assert now["notified"]["hook"]["at"] == now["times"]["notified"]
            assert not now["notified"]["hook"]["given_up"]
            assert "given up" not in engine.execd("doctor").stdout
            done = engine.execd("notify", str(job["_id"]), check=False)
            assert (done.returncode, up.paths) == (1, ["/"])
            assert "all of its targets were told already; --again tells them once more" in done.stderr
            engine.execd("notify", str(job["_id"]), "--again")
            until(lambda: len(up.paths) == 2, "it is told again")


def test_there_is_nobody_to_notify_of_a_job_that_runs_or_that_wants_nobody_told(make_engine: MakeEngine) -> None:
    engine = make_engine()
    draft, quiet = engine.submit({"status": "init", "command": "true"}, {"command": "true", "notify": False})
    engine.start()
    engine.wait([quiet])
    done = engine.execd("notify", str(draft), str(quiet), "nosuch", check=False)
    assert done.returncode == 1
    assert f"{draft}: has not ended (init)" in done.stderr
    assert f"{quiet}: nobody is to be told: neither the job nor the configuration names a target" in done.stderr
    assert "there is no job 'nosuch'" in done.stderr
