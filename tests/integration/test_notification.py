"""Owners are told: by a real mail server and a real web server, which also refuse, hang, go away and come back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from execution_engine.config import Notification
from execution_engine.jobs.job import Delivery, Job
from execution_engine.notification.notifier import Notifier
from tests.support.clocks import HeldClock
from tests.support.servers import (
    HOST,
    MailServer,
    WebServer,
    closed_port,
    mail_server,
    silent_server,
    trickling_server,
    web_server,
)

NOW = datetime(2026, 11, 20, 16, 0, 0, tzinfo=UTC)


def job(**fields: Any) -> Job:
    return Job.from_document({"_id": "j1", "status": "finished", "command": "true", "name": "blast", "owner": "jane", **fields})


def settings(targets: dict[str, str] | None = None, **more: Any) -> Notification:
    entries = {name: {"url": url} for name, url in (targets or {}).items()}
    return Notification.model_validate({"targets": entries, "default": list(entries), "timeout": 5, **more})


@dataclass(frozen=True)
class Outcome:
    """What came of telling a job's targets, one after the other."""

    notified: dict[str, Delivery]
    waits: tuple[float, ...] = ()

    @property
    def done(self) -> bool:
        return not self.waits


def deliver(notifier: Notifier, of: Job) -> Outcome:
    results = {errand.key: notifier.carry_out(errand) for errand in notifier.errands(of)}
    waits = tuple(result.again_in for result in results.values() if result.again_in is not None)
    return Outcome(dict(of.notified) | {key: result.delivery for key, result in results.items()}, waits)


def told(targets: dict[str, str] | None = None, of: Job | None = None, **more: Any) -> Outcome:
    return deliver(Notifier(settings(targets, **more), HeldClock(NOW)), of or job())


def mail_to(server: MailServer, to: str = "{owner}@users.org", more: str = "") -> str:
    return f"mailto://{HOST}:{server.port}/?from=execd@site.org&to={to}{more}"


def hook(server: WebServer, path: str = "hook") -> str:
    return f"json://{HOST}:{server.port}/{path}"


# --- by mail and by webhook


def test_the_owner_gets_a_mail() -> None:
    with mail_server() as server:
        outcome = told({"owner": mail_to(server)}, job(name="größe “1”"))
    assert outcome == Outcome({"owner": Delivery(at=NOW, attempts=1)})
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
    def asked(of: Job) -> list[str]:
        return [errand.target for errand in notifier.errands(of)]

    notifier = Notifier(settings({"a": "json://h/", "b": "json://h/"}, default=["a"]))
    assert asked(job()) == ["a"]
    assert asked(job(notify=True)) == ["a"]
    assert asked(job(notify=False)) == []
    assert asked(job(notify=[])) == []
    assert asked(job(notify=["b", "a", "b"])) == ["b", "a"]
    assert Notifier(settings()).errands(job()) == []


def test_an_unknown_name_fails_at_once_with_the_reason_and_the_others_are_told() -> None:
    with web_server() as server:
        outcome = told({"hook": hook(server)}, job(notify=["nobody", "hook"]))
    assert outcome.done
    assert outcome.notified["hook"].at == NOW
    why = "no target of this name in the configuration; known: hook"
    assert outcome.notified["nobody"] == Delivery(attempts=1, error=why, given_up=True)


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
    missing = deliver(notifier, job())
    assert "No such file" in str(missing.notified["hook"].error)
    assert not missing.done
    with web_server() as server:
        path.write_text(hook(server) + "\n")
        assert deliver(notifier, job(notified=dumped(missing))).done
    assert len(server.bodies) == 1
    path.unlink()
    os.mkfifo(path)
    assert "it is a named pipe; give a file" in str(deliver(notifier, job()).notified["hook"].error)


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


# --- a redirect is no acceptance


@pytest.mark.parametrize("answer", [301, 302, 303])
def test_a_redirect_that_turns_the_message_into_a_get_counts_as_refused_and_names_the_location(answer: int) -> None:
    with web_server() as there, web_server() as here:
        here.answer, here.location = answer, f"http://{HOST}:{there.port}/login?next=s3cr3t"
        outcome = told({"hook": hook(here)})
    assert not outcome.done
    assert outcome.notified["hook"].at is None
    assert f"({answer}), which is no acceptance: Location is http://{HOST}:{there.port}/login" in str(
        outcome.notified["hook"].error
    )
    assert "s3cr3t" not in str(outcome.notified["hook"].error)
    assert (there.bodies, there.gets) == ([], [])


@pytest.mark.parametrize("answer", [307, 308])
def test_a_redirect_that_keeps_method_and_body_is_followed_a_few_times(answer: int) -> None:
    with web_server() as there, web_server() as here:
        here.answer, here.location = answer, f"http://{HOST}:{there.port}/new"
        assert told({"hook": hook(here)}).done
        assert there.paths == ["/new"]
        assert there.bodies[0]["title"] == "[execd] blast finished"
        here.location = f"http://{HOST}:{here.port}/hook"
        round_and_round = told({"hook": hook(here)})
    assert "redirects" in str(round_and_round.notified["hook"].error)
    assert len(there.bodies) == 1


@pytest.mark.parametrize("location", ["http://localhost:1/x", "ftp://127.0.0.1/x", "//evil.example/x"])
def test_a_redirect_to_somebody_else_is_not_followed(location: str) -> None:
    with web_server() as here:
        here.answer, here.location = 307, location
        outcome = told({"hook": hook(here)})
    assert not outcome.done
    assert outcome.notified["hook"].error


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
        clock = HeldClock(NOW)
        notifier = Notifier(settings({"down": f"json://{HOST}:{port}/", "up": hook(up)}), clock)
        first = deliver(notifier, job())
        assert first.waits == (10,)
        assert "refused" in str(first.notified["down"].error)
        clock.move(10)
        with web_server(port) as down:
            second = deliver(notifier, job(notified=dumped(first)))
        assert second.done
        assert second.notified["down"] == Delivery(at=NOW + timedelta(seconds=10), attempts=2)
    assert (len(up.bodies), len(down.bodies)) == (1, 1)


def test_a_mail_server_that_was_down_gets_the_mail_when_it_is_back() -> None:
    with closed_port() as port:
        notifier = Notifier(settings({"owner": f"mailto://{HOST}:{port}/?from=execd@site.org&to=jane@users.org"}))
        first = deliver(notifier, job())
        assert "refused" in str(first.notified["owner"].error)
        with mail_server(port) as server:
            assert deliver(notifier, job(notified=dumped(first))).done
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
    outcome = Outcome({}, (0.0,))
    pauses: list[float] = []
    with closed_port() as port:
        notifier = Notifier(settings({"down": f"json://{HOST}:{port}/"}, attempts=5, retry_delay={"min": 10, "max": 60}))
        while not outcome.done:
            outcome = deliver(notifier, job(notified=dumped(outcome)))
            pauses += outcome.waits
    assert pauses == [10, 20, 40, 60]
    assert outcome.notified["down"].attempts == 5
    assert outcome.notified["down"].error
    assert outcome.notified["down"].given_up
    assert notifier.errands(job(notified=dumped(outcome))) == []


def test_by_default_a_mail_server_may_be_away_for_days_and_no_longer_than_five() -> None:
    ended = {"ended": NOW}
    clock, outcome = HeldClock(NOW), Outcome({}, (0.0,))
    with closed_port() as port:
        notifier = Notifier(settings({"down": f"json://{HOST}:{port}/"}), clock)
        while not outcome.done:
            clock.move(outcome.waits[0])
            outcome = deliver(notifier, job(times=ended, notified=dumped(outcome)))
    assert timedelta(days=4, hours=22) < clock.now() - NOW < timedelta(days=5, hours=2)
    assert outcome.notified["down"].given_up
    asked = {
        name: {**delivery, "given_up": False, "attempts": 0, "since": clock.now()} for name, delivery in dumped(outcome).items()
    }
    with web_server() as up:
        notifier = Notifier(settings({"down": hook(up)}), clock)
        assert notifier.errands(job(times=ended, notified=dumped(outcome))) == []
        assert deliver(notifier, job(times=ended, notified=asked)).notified["down"].at == clock.now()


@pytest.mark.parametrize("scheme", ["json", "mailto"])
def test_a_server_that_says_nothing_is_given_its_time_and_no_more(scheme: str) -> None:
    with silent_server() as port:
        began = datetime.now(UTC)
        outcome = told({"x": f"{scheme}://{HOST}:{port}/?from=a@site.org&to=b@users.org"}, timeout=0.3)
        took = (datetime.now(UTC) - began).total_seconds()
    assert "timed out" in str(outcome.notified["x"].error).lower()
    assert not outcome.done
    assert took < 5


@pytest.mark.parametrize("url", ["json://{place}/", "ntfy://{place}/topic", "mailto://{place}/?from=a@site.org&to=b@users.org"])
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", b"220 "])
def test_a_server_that_sends_a_byte_now_and_then_is_given_its_time_and_no_more(url: str, first: bytes) -> None:
    with trickling_server(first) as port:
        began = time.monotonic()
        outcome = told({"x": url.replace("{place}", f"{HOST}:{port}")}, timeout=1)
        took = time.monotonic() - began
    assert not outcome.done
    assert outcome.notified["x"].at is None
    assert took < 5


def test_an_answer_without_an_end_is_read_at_its_beginning_only() -> None:
    with trickling_server(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 16), interval=0) as port:
        began = time.monotonic()
        outcome = told({"x": f"json://{HOST}:{port}/"}, timeout=30)
        assert time.monotonic() - began < 20
    assert outcome.notified["x"].at == NOW


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
        outcomes = [deliver(notifier, job(_id=f"j{number}")) for number in range(5)]
        assert [outcome.notified["silent"].attempts for outcome in outcomes] == [1, 0, 0, 0, 0]
        assert "did not answer a moment ago" in str(outcomes[1].notified["silent"].error)
        assert not any(outcome.done for outcome in outcomes)
        assert all(0 < wait <= 10 for outcome in outcomes for wait in outcome.waits)
        assert len(up.bodies) == 5
        clock.move(10)
        again = deliver(notifier, job(_id="j9"))
        assert again.notified["silent"].attempts == 1
        assert 10 < deliver(notifier, job(_id="j10")).waits[0] <= 20


def test_several_threads_deliver_at_a_time_and_do_not_mix_their_reasons() -> None:
    with web_server() as good, web_server() as bad, closed_port() as port:
        bad.answer = 503
        notifier = Notifier(settings({"good": hook(good), "bad": hook(bad), "down": f"json://{HOST}:{port}/"}))
        jobs = [job(_id=f"j{number}", notify=[target]) for number in range(10) for target in ("good", "bad", "down")]
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda each: deliver(notifier, each), jobs))
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
        "from execution_engine.jobs.job import Job; import sys;"
        "n = Notifier(Notification(targets={'x': {'url': sys.argv[1]}}, default=('x',)));"
        "j = Job.from_document({'_id': 1, 'status': 'error', 'command': 'x'});"
        "(errand,) = n.errands(j); assert 'apprise' not in sys.modules, 'imported too early';"
        "print(n.carry_out(errand).delivery.attempts)"
    )
    with closed_port() as port:
        command = [sys.executable, "-c", code, f"json://{HOST}:{port}/"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
