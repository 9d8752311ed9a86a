"""Owners are told: by a real mail server and a real web server, which also refuse, hang, go away and come back."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.config import Notification
from execution_engine.jobs.job import Delivery, Job
from execution_engine.notification.notifier import Notifier, Outcome
from tests.support.clocks import HeldClock
from tests.support.servers import HOST, MailServer, WebServer, closed_port, mail_server, silent_server, web_server

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=UTC)


def job(**fields: Any) -> Job:
    return Job.from_document({"_id": "j1", "status": "finished", "command": "true", "name": "blast", "owner": "jane", **fields})


def settings(targets: dict[str, str] | None = None, **more: Any) -> Notification:
    entries = {name: {"url": url} for name, url in (targets or {}).items()}
    return Notification.model_validate({"targets": entries, "default": list(entries), "timeout": 5, **more})


def told(targets: dict[str, str] | None = None, of: Job | None = None, **more: Any) -> Outcome:
    return Notifier(settings(targets, **more)).deliver(of or job(), NOW)


def mail_to(server: MailServer, to: str = "{owner}@users.org", more: str = "") -> str:
    return f"mailto://{HOST}:{server.port}/?from=execd@site.org&to={to}{more}"


def hook(server: WebServer, path: str = "hook") -> str:
    return f"json://{HOST}:{server.port}/{path}"


# --- by mail and by webhook


def test_the_owner_gets_a_mail() -> None:
    with mail_server() as server:
        outcome = told({"owner": mail_to(server)}, job(name="größe “1”"))
    assert outcome == Outcome({"owner": Delivery(at=NOW, attempts=1)}, done=True)
    assert server.recipients == [["jane@users.org"]]
    (mail,) = server.mails
    assert mail["Subject"] == "[execd] größe “1” finished"
    assert mail["To"] == "jane@users.org"
    assert "execd@site.org" in mail["From"]
    assert mail["X-Execd-Key"] == "j1-1-owner"
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().replace("\r\n", "\n").startswith('Job "größe “1”" finished.\n\n  job        j1\n')


def test_a_webhook_gets_the_same_with_headers_to_go_by() -> None:
    with web_server() as server:
        outcome = told({"hook": hook(server)}, job(status="error", exit={"code": 3, "reason": "exit code"}))
    assert outcome.done
    assert server.paths == ["/hook"]
    assert server.bodies[0]["title"] == "[execd] blast ended in error: exit code 3"
    assert server.bodies[0]["type"] == "failure"
    assert server.headers[0]["X-Execd-Key"] == "j1-1-hook"
    assert server.headers[0]["X-Execd-Status"] == "error"


@pytest.mark.parametrize("name", ["x\r\nBcc: victim@evil.org", "x\nX-Evil: 1\n\nbody", "x\u2028Bcc: v@evil.org"])
def test_no_name_can_add_a_header_or_a_recipient(name: str) -> None:
    with mail_server() as server:
        assert told({"owner": mail_to(server)}, job(name=name, project=name)).done
    (mail,) = server.mails
    assert mail["Bcc"] is None
    assert mail["X-Evil"] is None
    assert server.recipients == [["jane@users.org"]]
    assert mail["Subject"].startswith("[execd] x ")


# --- whom


def test_nobody_is_told_when_nobody_is_to_be_told() -> None:
    notifier = Notifier(settings({"a": "json://h/", "b": "json://h/"}, default=["a"]))
    assert notifier.targets_of(job()) == ["a"]
    assert notifier.targets_of(job(notify=True)) == ["a"]
    assert notifier.targets_of(job(notify=False)) == []
    assert notifier.targets_of(job(notify=[])) == []
    assert notifier.targets_of(job(notify=["b", "a", "b"])) == ["b", "a"]
    assert Notifier(settings()).targets_of(job()) == []
    assert notifier.deliver(job(notify=False), NOW) == Outcome({}, done=True)


def test_an_unknown_name_fails_at_once_with_the_reason_and_the_others_are_told() -> None:
    with web_server() as server:
        outcome = told({"hook": hook(server)}, job(notify=["nobody", "hook"]))
    assert outcome.done
    assert outcome.retry_at is None
    assert outcome.notified["hook"].at == NOW
    assert outcome.notified["nobody"] == Delivery(attempts=1, error="no target of this name in the configuration; known: hook")


@pytest.mark.parametrize("name", ["a.b", "$where", "", "x" * 1000])
def test_a_name_that_a_database_would_misread_is_recorded_all_the_same(name: str) -> None:
    (key,) = told({}, job(notify=[name])).notified
    assert key
    assert "." not in key
    assert not key.startswith("$")


def test_a_url_in_a_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "url"
    more = {"targets": {"hook": {"url_file": str(path)}}, "default": ["hook"], "timeout": 5}
    notifier = Notifier(Notification.model_validate(more))
    missing = notifier.deliver(job(), NOW)
    assert "No such file" in str(missing.notified["hook"].error)
    assert not missing.done
    with web_server() as server:
        path.write_text(hook(server) + "\n")
        assert notifier.deliver(job(notified=dumped(missing)), NOW).done
    assert len(server.bodies) == 1


def dumped(outcome: Outcome) -> dict[str, Any]:
    return {name: delivery.model_dump() for name, delivery in outcome.notified.items()}


# --- what an owner can and cannot put into an address


@pytest.mark.parametrize(
    "owner",
    [
        "jane,evil@evil.org",
        "evil@evil.org",
        "jane&bcc=evil@evil.org",
        "jane%26bcc%3Devil",
        "a b",
        "x;y",
        "<x>",
        "a\nb",
        "",
        "..",
        "a/b",
        "a?b",
    ],
)
def test_an_owner_cannot_add_a_recipient_or_a_parameter(owner: str) -> None:
    with mail_server() as server:
        outcome = told({"owner": mail_to(server)}, job(owner=owner))
    assert server.recipients == []
    assert outcome.done
    assert "cannot be part of a target's address" in str(outcome.notified["owner"].error)


def test_an_owner_that_is_an_address_is_one() -> None:
    with mail_server() as server:
        assert told({"owner": mail_to(server, "{owner}")}, job(owner="jane.doe+jobs@users.org")).done
    assert server.recipients == [["jane.doe+jobs@users.org"]]


def test_a_name_in_a_path_stays_one_step_of_it() -> None:
    with web_server() as server:
        outcome = told({"hook": hook(server, "{project}/{name}/x")}, job(name="../a b?c=d&{owner}", project="bio"))
    assert outcome.done
    (path,) = server.paths
    assert path == "/bio/_a_b_c_d_owner_/x"


def test_a_host_cannot_be_left_by_a_project() -> None:
    with web_server() as server:
        url = f"json://{HOST}:{server.port}/{{project}}/"
        for project in ("x/../..", "a@evil.org:1", "#", "%2e%2e%2f"):
            told({"hook": url}, job(project=project))
    assert set(server.paths) <= {"/a@evil.org:1/"}


# --- URLs that jobs bring


def test_a_job_may_bring_a_url_only_where_the_administrator_allows_it() -> None:
    with web_server() as server:
        bringing = job(notify=[hook(server)])
        refused = told({}, bringing)
        allowed = told({}, bringing, allow_urls=True)
    assert refused.done
    assert "allow_urls" in str(refused.notified["url 1 (json)"].error)
    assert allowed.notified["url 1 (json)"].at == NOW
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "exec://x",
        "dbus://",
        "qt://",
        "syslog://",
        "windows://",
        "apprise://127.0.0.1/x",
        "mqtt://127.0.0.1/x",
        "http://127.0.0.1/x",
        "https://127.0.0.1/x.yml",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org&pgp=encrypt&pgppub=/etc/passwd",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org;pgppub=/etc/passwd",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org&PGPPRV=/etc/passwd",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org&%70gppub=/etc/passwd",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org&+X=a%0d%0aBcc:c@evil.org",
        "mailto://127.0.0.1:{port}/?from=a@site.org&to=b@users.org&+X=a%250d%250aBcc:c@evil.org",
        "slack://aaaaaaaaa/bbbbbbbbb/cccccccccccccccccccccccc/?template=/etc/passwd",
        "json://127.0.0.1:{port}/?attach=/etc/passwd",
        "://",
        "x://",
        "json://[",
    ],
)
def test_a_url_of_a_job_that_could_do_harm_is_refused_for_good(url: str) -> None:
    with mail_server() as server:
        outcome = told({}, job(notify=[url.replace("{port}", str(server.port))]), allow_urls=True)
    (delivery,) = outcome.notified.values()
    assert delivery.at is None
    assert delivery.error
    assert outcome.done, delivery.error
    assert server.mails == []


def test_a_job_may_mail_by_a_url_of_its_own() -> None:
    with mail_server() as server:
        assert told({}, job(notify=[mail_to(server, "joe@users.org", "&name=Jobs")]), allow_urls=True).done
    assert server.recipients == [["joe@users.org"]]


def test_two_urls_in_one_are_not_two_targets() -> None:
    with web_server() as server:
        told({}, job(notify=[f"{hook(server)}, file:///tmp/x"]), allow_urls=True)
    assert len(server.bodies) <= 1


# --- failures, back-off, and servers that come back


def test_one_that_fails_does_not_hold_up_the_others_and_is_tried_again_alone() -> None:
    with closed_port() as port, web_server() as up:
        notifier = Notifier(settings({"down": f"json://{HOST}:{port}/", "up": hook(up)}))
        first = notifier.deliver(job(), NOW)
        assert not first.done
        assert first.retry_at == NOW + timedelta(seconds=10)
        assert "refused" in str(first.notified["down"].error)
        with web_server(port) as down:
            second = notifier.deliver(job(notified=dumped(first)), NOW + timedelta(seconds=10))
        assert second.done
        assert second.notified["down"] == Delivery(at=NOW + timedelta(seconds=10), attempts=2)
    assert (len(up.bodies), len(down.bodies)) == (1, 1)


def test_a_mail_server_that_was_down_gets_the_mail_when_it_is_back() -> None:
    with closed_port() as port:
        notifier = Notifier(settings({"owner": f"mailto://{HOST}:{port}/?from=execd@site.org&to=jane@users.org"}))
        first = notifier.deliver(job(), NOW)
        assert "refused" in str(first.notified["owner"].error)
        with mail_server(port) as server:
            assert notifier.deliver(job(notified=dumped(first)), NOW).done
    assert server.recipients == [["jane@users.org"]]


def test_the_reason_of_a_refusal_is_recorded() -> None:
    with mail_server() as mail, web_server() as web:
        mail.refused = {"jane@users.org"}
        web.answer = 500
        outcome = told({"owner": mail_to(mail), "hook": hook(web)})
        assert "550" in str(outcome.notified["owner"].error)
        assert "500" in str(outcome.notified["hook"].error)
        mail.refused, mail.answer = set(), "451 come back later"
        assert "451" in str(told({"owner": mail_to(mail)}).notified["owner"].error)


def test_the_pauses_double_up_to_the_limit_and_then_it_is_given_up() -> None:
    outcome = Outcome({}, done=False)
    pauses = []
    with closed_port() as port:
        notifier = Notifier(settings({"down": f"json://{HOST}:{port}/"}, attempts=5, retry_delay={"min": 10, "max": 60}))
        while not outcome.done:
            outcome = notifier.deliver(job(notified=dumped(outcome)), NOW)
            pauses.append((outcome.retry_at - NOW).total_seconds() if outcome.retry_at else None)
    assert pauses == [10, 20, 40, 60, None]
    assert outcome.notified["down"].attempts == 5
    assert outcome.notified["down"].error
    assert notifier.deliver(job(notified=dumped(outcome)), NOW) == outcome


@pytest.mark.parametrize("scheme", ["json", "mailto"])
def test_a_server_that_says_nothing_is_given_its_time_and_no_more(scheme: str) -> None:
    with silent_server() as port:
        began = datetime.now(UTC)
        outcome = told({"x": f"{scheme}://{HOST}:{port}/?from=a@site.org&to=b@users.org"}, timeout=0.3)
        took = (datetime.now(UTC) - began).total_seconds()
    assert "timed out" in str(outcome.notified["x"].error).lower()
    assert not outcome.done
    assert took < 5


def test_a_silent_server_costs_its_time_once_and_other_targets_none() -> None:
    class SlowClock(HeldClock):
        """A quarter of a second passes with each look at it, so that a delivery that fails counts as slow."""

        def monotonic(self) -> float:
            self.move(0.25)
            return super().monotonic()

    clock = SlowClock()
    with silent_server() as port, web_server() as up:
        targets = {"silent": f"json://{HOST}:{port}/", "up": hook(up)}
        notifier = Notifier(settings(targets, timeout=0.2), clock)
        outcomes = [notifier.deliver(job(_id=f"j{number}"), NOW) for number in range(5)]
        assert [outcome.notified["silent"].attempts for outcome in outcomes] == [1, 0, 0, 0, 0]
        assert "did not answer a moment ago" in str(outcomes[1].notified["silent"].error)
        assert not any(outcome.done for outcome in outcomes)
        assert all(outcome.retry_at and NOW < outcome.retry_at <= NOW + timedelta(seconds=10) for outcome in outcomes)
        assert len(up.bodies) == 5
        clock.move(10)
        assert notifier.deliver(job(_id="j9"), NOW).notified["silent"].attempts == 1


def test_several_threads_deliver_at_a_time_and_do_not_mix_their_reasons() -> None:
    with web_server() as good, web_server() as bad, closed_port() as port:
        bad.answer = 503
        notifier = Notifier(settings({"good": hook(good), "bad": hook(bad), "down": f"json://{HOST}:{port}/"}))
        jobs = [job(_id=f"j{number}", notify=[target]) for number in range(10) for target in ("good", "bad", "down")]
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda each: notifier.deliver(each, NOW), jobs))
    for each, outcome in zip(jobs, outcomes, strict=True):
        assert isinstance(each.notify, tuple)
        (target,) = each.notify
        error = str(outcome.notified[target].error)
        assert error == "None" if target == "good" else "503" in error if target == "bad" else "refused" in error
    assert len(good.bodies) == 10


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("json://joe:s3cr3tpass@{place}/", "s3cr3tpass"),
        ("json://{place}/hooks/s3cr3ttoken", "s3cr3ttoken"),
        ("json://{place}/?-key=s3cr3tparam", "s3cr3tparam"),
        ("mailto://joe:s3cr3tpass@{place}/?from=a@site.org&to=b@users.org", "s3cr3tpass"),
        ("mailto://{place}/?user=joe&pass=s3cr3tpass&from=a@site.org", "s3cr3tpass"),
        ("mailto://joe:s3c@{place}/?from=nowhere", "s3c"),
        ("mailto://joe:s%23cr%40t@{place}/?to=b", "s#cr@t"),
        ("ntfy://{place}/s3cr3ttopic", "s3cr3ttopic"),
        ("nosuch://{place}/s3cr3ttopic", "s3cr3ttopic"),
    ],
)
def test_no_error_shows_a_secret_of_the_url(url: str, secret: str) -> None:
    with closed_port() as port:
        outcome = told({"x": url.replace("{place}", f"{HOST}:{port}")})
    error = outcome.notified["x"].error
    assert error
    assert secret not in error


def test_apprise_says_nothing_to_the_terminal() -> None:
    code = (
        "from execution_engine.notification.notifier import Notifier; from execution_engine.config import Notification;"
        "from execution_engine.jobs.job import Job; from datetime import datetime, UTC; import sys;"
        "n = Notifier(Notification(targets={'x': {'url': sys.argv[1]}}, default=('x',)));"
        "j = Job.from_document({'_id': 1, 'status': 'error', 'command': 'x'});"
        "assert n.targets_of(j) == ['x']; assert 'apprise' not in sys.modules, 'imported too early';"
        "print(n.deliver(j, datetime.now(UTC)).done)"
    )
    with closed_port() as port:
        command = [sys.executable, "-c", code, f"json://{HOST}:{port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
