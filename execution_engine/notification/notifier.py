"""Tells the targets of a job that it ended: each on its own, and again with back-off until it was told or given up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from execution_engine import config
from execution_engine.clock import Clock, SystemClock
from execution_engine.jobs.job import Delivery, Job
from execution_engine.notification import message, targets

_SLOW = 0.5
"""A failure that took this part of the timeout is a server that does not answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of telling a job's targets."""

    notified: dict[str, Delivery]
    """the new value of the job's `notified`"""
    done: bool
    """nobody is left to be told: each target was, or was given up"""
    retry_at: datetime | None = None
    """when to call `deliver` again, if not done"""


class Notifier:
    """Delivers the messages about ended jobs.  Several threads may call it at a time.

    A server that does not answer is left alone until `retry_delay.min` has passed, so that many jobs for it do not hold up the
    messages to others; a job that has to wait for that reason has not used up an attempt.
    """

    def __init__(self, settings: config.Notification, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._silent_until: dict[str, float] = {}

    def targets_of(self, job: Job) -> list[str]:
        """Whom this job's end is told; empty: there is nothing to do."""
        return targets.targets_of(job, self._settings)

    def deliver(self, job: Job, now: datetime) -> Outcome:
        """Tells each target that was not told yet and not given up.  Never raises for what a target does."""
        notified = dict(job.notified)
        waits: list[float] = []
        for number, target in enumerate(self.targets_of(job), start=1):
            key = targets.record_key(target, number)
            before = notified.get(key, Delivery())
            if before.at is not None or before.attempts >= self._settings.attempts:
                continue
            notified[key], wait = self._tell(target, key, job, before, now)
            if wait is not None:
                waits.append(wait)
        retry_at = now + timedelta(seconds=min(waits)) if waits else None
        return Outcome(notified, done=not waits, retry_at=retry_at)

    def _tell(self, target: str, key: str, job: Job, before: Delivery, now: datetime) -> tuple[Delivery, float | None]:
        """The record of this target after a try, and the seconds until the next one."""
        attempts = before.attempts + 1
        try:
            url = targets.url_of(target, job, self._settings)
            if (silent := self._silent_until.get(_server(url), 0.0) - self._clock.monotonic()) > 0:
                return before.model_copy(update={"error": "not tried: its server did not answer a moment ago"}), silent
            self._send(url, message.about(job, key), own_url=targets.is_url(target))
        except targets.UnusableTarget as error:
            return Delivery(attempts=max(before.attempts, 1), error=str(error)), None
        except (targets.DeliveryFailed, OSError, UnicodeDecodeError) as error:
            again = self._delay(attempts) if attempts < self._settings.attempts else None
            return Delivery(attempts=attempts, error=str(error)), again
        return Delivery(at=now, attempts=attempts), None

    def _send(self, url: str, content: message.Message, *, own_url: bool) -> None:
        from execution_engine.notification import sending  # here, because apprise is large and most processes never send

        began = self._clock.monotonic()
        try:
            sending.send(url, content, timeout=self._settings.timeout, own_url=own_url)
        except targets.DeliveryFailed:
            ended = self._clock.monotonic()
            if ended - began >= _SLOW * self._settings.timeout:
                self._silent_until[_server(url)] = ended + self._settings.retry_delay.min
            raise

    def _delay(self, attempts: int) -> float:
        delay = self._settings.retry_delay
        return min(delay.max, delay.min * 2.0 ** (attempts - 1))


def _server(url: str) -> str:
    """What of a URL names the other side: scheme, host and port."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split(r'[/?]', rest, maxsplit=1)[0].rpartition('@')[2]}"
