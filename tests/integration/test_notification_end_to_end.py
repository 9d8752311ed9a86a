"""The owner is told at the end, by a real mail server and a real web server."""

from __future__ import annotations

from typing import Any

from tests.support.engine_fixtures import MakeEngine
from tests.support.engines import Engine, until
from tests.support.servers import closed_port, mail_server, web_server


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
