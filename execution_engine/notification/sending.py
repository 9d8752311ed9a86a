"""Sends one message to one URL by apprise.  Imported only where a message is really sent: apprise is large.

Apprise answers with yes or no and tells its log why; what it told there is the error that is raised here.
"""

from __future__ import annotations

import logging
import re
import threading
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import apprise
from apprise.plugins import url_to_dict

from execution_engine.notification.cut_off import CutOff
from execution_engine.notification.message import Message
from execution_engine.notification.targets import DeliveryFailed, UnusableTarget
from execution_engine.notification.web import hold_to_web_rules
from execution_engine.notification.wording import in_words, is_of_a_connection

_MAIL = frozenset({"mailto", "mailtos"})
_WEBHOOKS = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_CHATS = frozenset({"discord", "gchat", "gotify", "gotifys", "mmost", "mmosts", "ntfy", "ntfys", "rocket", "rockets"})
_CHATS |= {"slack", "tgram", "workflow", "workflows", "zulip"}
_FOR_JOBS = _MAIL | _WEBHOOKS | _CHATS
"""The services that a job's own URL may name: nothing that runs, reads or writes anything on this machine."""

_PARAMETERS_FOR_JOBS = frozenset({"to", "cc", "bcc", "from", "name", "reply", "smtp", "mode", "user", "pass", "port"})
_PARAMETERS_FOR_JOBS |= {"method", "format", "verify", "priority", "tags"}
"""The parameters that a job's own URL may have; apprise has others that name files (keys, templates, attachments)."""

_CARRIES_HEADERS = _MAIL | _WEBHOOKS
_MAX_ERROR = 500
_SHORTEST_SECRET = 6


def send(url: str, message: Message, *, timeout: float, own_url: bool) -> None:
    """Sends the message; returns when the other side has accepted it.  `timeout`: seconds for all of it.

    `own_url`: the job brought the URL, which is then held to what is harmless.  Raises UnusableTarget when the URL cannot be
    used at all, DeliveryFailed with the reason otherwise; neither shows the secrets of the URL.
    """
    reasons = _reasons()
    reasons.forget()
    try:
        service = _service(url, message, own_url=own_url)
    except Exception as error:  # noqa: BLE001 - a parser of apprise may raise anything for what is not a URL
        raise UnusableTarget(_redacted(str(error), url)) from None
    service.socket_connect_timeout = service.socket_read_timeout = timeout
    hold_to_web_rules(reasons.say)
    service.redirects = True
    with CutOff(timeout) as cut_off:
        accepted = _notify(service, message, url)
    if cut_off.over:
        raise DeliveryFailed(_redacted("; ".join(filter(None, (_too_late(timeout), reasons.told(connections=False)))), url))
    if not accepted:
        raise DeliveryFailed(_redacted(reasons.told() or "refused, without a reason", url))


def _notify(service: Any, message: Message, url: str) -> bool:
    """Whether the other side accepted the message."""
    try:
        accepted: bool = service.notify(
            title=message.title,
            body=message.body,
            notify_type=apprise.NotifyType.SUCCESS if message.good else apprise.NotifyType.FAILURE,
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001 - a plug-in of apprise may raise anything; that is its answer
        raise DeliveryFailed(_redacted(in_words([f"{type(error).__name__}: {error}"]), url)) from None
    return accepted


def _too_late(timeout: float) -> str:
    return f"timed out: the other side had not answered in full within {timeout:g} s"


def _service(url: str, message: Message, *, own_url: bool) -> Any:
    parsed: dict[str, Any] | None = url_to_dict(_with_headers(url, message))  # type: ignore[no-untyped-call]
    if parsed is None:
        raise UnusableTarget(f"not a URL of a service: {_reasons().told()}")
    if own_url:
        _refuse_what_a_job_may_not(url, parsed)
    asset = apprise.AppriseAsset(app_id="execd", async_mode=False)
    service: Any = apprise.Apprise.instantiate(parsed, asset=asset, suppress_exceptions=False)
    if service is None or (parsed["schema"] in _MAIL and not service.targets):
        raise UnusableTarget(f"the URL cannot be used: {_reasons().told()}")
    return service


def _with_headers(url: str, message: Message) -> str:
    if url.partition("://")[0].lower() not in _CARRIES_HEADERS:
        return url
    headers = "&".join(f"+{name}={quote(value, safe='')}" for name, value in message.headers.items())
    return f"{url}{'&' if '?' in url else '?'}{headers}"


def _refuse_what_a_job_may_not(url: str, parsed: dict[str, Any]) -> None:
    """Judges what apprise has understood, not what the URL looks like."""
    if parsed["schema"] not in _FOR_JOBS:
        allowed = ", ".join(sorted(_FOR_JOBS))
        raise UnusableTarget(f"a job's own URL may not begin with {parsed['schema']}:; it may with {allowed}")
    if not unquote(unquote(url)).isprintable():
        raise UnusableTarget("a job's own URL may not hold control characters")
    for name in parsed.get("qsd", {}):
        if name not in _PARAMETERS_FOR_JOBS and name[:1] not in {"+", "-", ":"}:
            raise UnusableTarget(f"a job's own URL may not have the parameter {name!r}")


class _Reasons(logging.Handler):
    """Keeps what apprise says in this thread about a failure."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING or text.startswith("Socket Exception"):
            self.say(text.removeprefix("Socket Exception:").strip())

    def say(self, text: str) -> None:
        """Adds a reason."""
        self._here.lines = [*self._lines(), text]

    def forget(self) -> None:
        """Begins anew."""
        self._here.lines = []

    def told(self, *, connections: bool = True) -> str:
        """What was said since, without repetitions; perhaps without that a connection ended, which a time-out ends."""
        return in_words([line for line in self._lines() if connections or not is_of_a_connection(line)])

    def _lines(self) -> list[str]:
        return getattr(self._here, "lines", [])


@cache
def _reasons() -> _Reasons:
    handler = _Reasons()
    log = logging.getLogger("apprise")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    return handler


def _redacted(reason: str, url: str) -> str:
    """The reason in one line, bounded, without what in the URL can be a secret."""
    text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?| with url: \S+", "", reason)
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _MAX_ERROR else text[:_MAX_ERROR] + "…"


def _secrets(url: str) -> set[str]:
    """What must not be shown: the password; for webhooks also path and parameters; for chats all, since tokens are anywhere."""
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    place, _, path = location.partition("/")
    credentials = place.rpartition("@")[0]
    parameters = parse_qsl(query)
    passwords = {credentials.partition(":")[2], *(value for name, value in parameters if name in {"pass", "password"})}
    words = {credentials}
    if scheme.lower() not in _MAIL:
        words |= {*path.split("/"), *(value for _, value in parameters)}
        if scheme.lower() not in _WEBHOOKS:
            words |= {place, *re.split(r"[@:]", place)}
    secrets = {word for word in passwords | words if word in passwords or len(word) >= _SHORTEST_SECRET}
    return (secrets | {unquote(word) for word in secrets}) - {""}
