"""What execd takes from a web server that it sends a message to.

Of its answer the beginning; of its redirects those that keep method and body (307, 308), a few, on the same host.

With 301, 302 and 303 the usual clients turn a POST into a GET, and whatever page answers that would count as an acceptance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

_KEEP_THE_BODY = (307, 308)
_MOST = 3
_LARGEST_ANSWER = 1 << 16
"""Bytes; whether the message was accepted is told before them."""


class _Here(threading.local):
    """What is this thread's."""

    say: Callable[[str], object] = str
    """told why a redirect was not followed"""


_here = _Here()


def hold_to_web_rules(say: Callable[[str], object]) -> None:
    """From now on this process' requests follow these rules; `say` is told, in this thread, why one was not followed."""
    _here.say = say
    requests.sessions.Session = requests.Session = _Session  # type: ignore[misc]


class _Adapter(HTTPAdapter):
    """Reads no more of an answer than its beginning: one that does not end would fill the memory."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = super().send(request, *args, **options)
        response._content = response.raw.read(_LARGEST_ANSWER, decode_content=True)  # what `content` gives from now on
        response._content_consumed = True
        response.close()
        return response


class _Session(requests.Session):
    """Follows no redirect that is not a `POST` again, and none to somebody else, who would be given the message's secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = _MOST
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        location = super().get_redirect_target(resp)
        if location is None:
            return None
        target = urljoin(resp.url, location)
        if resp.status_code not in _KEEP_THE_BODY:
            why = f"redirected ({resp.status_code})"
        elif not _is_same_place(resp.url, target):
            why = f"redirected ({resp.status_code}) to another host"
        else:
            return location
        _here.say(f"{why}, which is no acceptance: Location is {_plain(target)}; put that into the target's URL")
        return None


def _is_same_place(before: str, after: str) -> bool:
    """The same host, and not from TLS to plain text."""
    old, new = urlsplit(before), urlsplit(after)
    return old.hostname == new.hostname and (old.scheme == new.scheme or new.scheme == "https")


def _plain(url: str) -> str:
    """Without what may be a secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
