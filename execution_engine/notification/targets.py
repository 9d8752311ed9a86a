"""Whom a job's end is told: names of the configuration, or URLs of the job's own, as URLs that can be used."""

from __future__ import annotations

import re
from urllib.parse import quote

from execution_engine import config
from execution_engine.descriptors import plain_content
from execution_engine.errors import ExecdError
from execution_engine.jobs.job import Job

_PLACEHOLDER = re.compile(r"\{(owner|project|name)\}(@?)")
_HARMLESS = re.compile(r"(?!\.+$)[\w.+-]+(@[\w.-]+)?")
_NOT_HARMLESS = re.compile(r"[^\w.+-]+")
_LARGEST_URL = 1 << 16
_FOR_A_KEY = str.maketrans({".": "\uff0e", "$": "\uff04"})
"""MongoDB gives a meaning to both in the name of a field; these look the same."""


class UnusableTarget(ExecdError):
    """A target that cannot be told, however often it is tried."""


class DeliveryFailed(ExecdError):
    """A message that was not accepted; another try may succeed."""


def targets_of(job: Job, settings: config.Notification) -> list[str]:
    """The targets of the job as they are written, each once: names of the configuration, or URLs."""
    if isinstance(job.notify, bool):
        return list(dict.fromkeys(settings.default)) if job.notify else []
    return list(dict.fromkeys(job.notify))


def is_url(target: str) -> bool:
    """Whether a job brought the URL of a target instead of its name."""
    return "://" in target


def record_key(target: str, number: int) -> str:
    """The key of a target in the job's `notified`: without the secrets of a URL, and without what a database gives a meaning."""
    name = f"url {number} ({target.partition('://')[0][:20]})" if is_url(target) else target
    return name.translate(_FOR_A_KEY) or "(empty)"


def url_of(target: str, job: Job, settings: config.Notification) -> str:
    """The URL to be used for a target of this job.

    Raises UnusableTarget when there is none and there will be none; OSError when the file that holds it cannot be read.
    """
    if is_url(target):
        if not settings.allow_urls:
            raise UnusableTarget("jobs may not bring URLs of their own (notification.allow_urls); use the name of a target")
        return target
    if (entry := settings.targets.get(target)) is None:
        known = ", ".join(sorted(settings.targets)) or "none"
        raise UnusableTarget(f"no target of this name in the configuration; known: {known}")
    if entry.url is not None:
        return _filled(entry.url, job)
    if entry.url_file is not None:
        return _filled(plain_content(entry.url_file, _LARGEST_URL).decode("utf-8").strip(), job)
    raise UnusableTarget("the target has neither url nor url_file in the configuration")


def _filled(template: str, job: Job) -> str:
    return _PLACEHOLDER.sub(lambda found: quote(_value(found[1], found[2], job), safe="") + found[2], template)


def _value(field: str, follows: str, job: Job) -> str:
    """A job's value for a placeholder: one word, so that it can neither add a recipient nor a parameter nor leave its place.

    A job's name is for people and may hold anything: what is not harmless in it becomes `_`.
    """
    value: str = getattr(job, field)
    if field == "name":
        value = _NOT_HARMLESS.sub("_", job.label).strip(".") or "_"
    if not _HARMLESS.fullmatch(value) or (follows and "@" in value):
        raise UnusableTarget(f"the job's {field} {value!r} cannot be part of a target's address")
    return value
