"""Tells the targets of a job that it ended: each on its own, and again with back-off until it was told or given up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from execution_engine import config
from execution_engine.clock import Clock, SystemClock
from execution_engine.jobs.job import Delivery, Job
from execution_engine.notification import message, targets

_SLOW = 0.5
"""A failure that took this part of the timeout is a server that does not answer."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One target of one job, which is to be told."""

    job: Job
    target: str
    """as the job or the configuration calls it"""
    key: str
    """its name in the job's `notified`"""
    before: Delivery
    """what is recorded of it so far"""
    url: str
    """empty: there is none that can be used, `problem` says why"""
    server: str
    """whom the URL is about: scheme, host and port"""
    problem: str = ""
    hopeless: bool = False
    """no later try can be better"""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an errand."""

    delivery: Delivery
    """the new record of the target"""
    again_in: float | None = None
    """seconds until the next try; None: it was told, or is given up"""


class Notifier:
    """Delivers the messages about ended jobs.  Several threads may call `carry_out` at a time.

    A server that does not answer is left alone for a while, which grows, so that many jobs for it do not hold up the messages
    to others; a job that has to wait for that reason has not used up an attempt.
    """

    def __init__(self, settings: config.Notification, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._rests: dict[str, tuple[float, float]] = {}
        """by server: until when it is left alone, and how long that is"""

    def targets_of(self, job: Job) -> list[str]:
        """Whom this job's end is told; empty: there is nothing to do."""
        return targets.targets_of(job, self._settings)

    def record_names(self, job: Job) -> dict[str, str]:
        """The targets by their names in the job's `notified`."""
        return {targets.record_key(target, number): target for number, target in enumerate(self.targets_of(job), start=1)}

    def errands(self, job: Job) -> list[Errand]:
        """The targets that were not told yet and not given up.  None: there is nothing (more) to do for this job."""
        errands = [self._errand(job, target, key) for key, target in self.record_names(job).items()]
        return [errand for errand in errands if errand.before.at is None and not errand.before.given_up]

    def _errand(self, job: Job, target: str, key: str) -> Errand:
        before = job.notified.get(key, Delivery())
        try:
            url = targets.url_of(target, job, self._settings)
        except targets.UnusableTarget as error:
            return Errand(job, target, key, before, "", "", str(error), hopeless=True)
        except (OSError, UnicodeDecodeError) as error:
            return Errand(job, target, key, before, "", "", str(error))
        return Errand(job, target, key, before, url, _server(url))

    def carry_out(self, errand: Errand) -> Result:
        """Tells the target, within the timeout, unless its server is left alone now.  Never raises for what a target does."""
        if errand.hopeless:
            attempts = max(errand.before.attempts, 1)
            return Result(errand.before.model_copy(update={"attempts": attempts, "error": errand.problem, "given_up": True}))
        if errand.problem:
            return self.failed(errand, errand.problem)
        if (rest := self._rests.get(errand.server, (0.0, 0.0))[0] - self._clock.monotonic()) > 0:
            return self.postponed(errand, "its server did not answer a moment ago", rest)
        return self._sent(errand)

    def _sent(self, errand: Errand) -> Result:
        from execution_engine.notification import sending  # here, because apprise is large and most processes never send

        began = self._clock.monotonic()
        own_url = targets.is_url(errand.target)
        try:
            sending.send(errand.url, message.about(errand.job, errand.key), timeout=self._settings.timeout, own_url=own_url)
        except targets.UnusableTarget as error:
            return self.carry_out(Errand(errand.job, errand.target, errand.key, errand.before, "", "", str(error), hopeless=True))
        except targets.DeliveryFailed as error:
            if self._clock.monotonic() - began >= _SLOW * self._settings.timeout:
                self.rest(errand.server)
            return self.failed(errand, str(error))
        self._rests.pop(errand.server, None)
        return Result(Delivery(at=self._clock.now(), attempts=errand.before.attempts + 1, since=errand.before.since))

    def rest(self, server: str) -> None:
        """Leaves a server alone that did not answer: for twice as long as the last time, while it goes on so."""
        now, delay = self._clock.monotonic(), self._settings.retry_delay
        until, length = self._rests.get(server, (0.0, 0.0))
        if until <= now:  # not for each of those that were under way when it fell silent
            length = min(delay.max, length * 2 or delay.min)
            self._rests[server] = now + length, length

    def failed(self, errand: Errand, why: str) -> Result:
        """The record of a try that failed."""
        attempts = errand.before.attempts + 1
        delivery = errand.before.model_copy(update={"attempts": attempts, "error": why})
        if self._is_given_up(errand.job, delivery):
            return Result(delivery.model_copy(update={"given_up": True}))
        delay = self._settings.retry_delay
        return Result(delivery, min(delay.max, delay.min * 2.0 ** min(attempts - 1, 60)))

    def postponed(self, errand: Errand, why: str, seconds: float | None = None) -> Result:
        """The record of a target that was not tried, which counts as no attempt."""
        delivery = errand.before.model_copy(update={"error": f"not tried: {why}"})
        if self._is_given_up(errand.job, delivery):
            return Result(delivery.model_copy(update={"given_up": True}))
        return Result(delivery, self._settings.retry_delay.min if seconds is None else seconds)

    def _is_given_up(self, job: Job, delivery: Delivery) -> bool:
        """Whether it was tried often enough, or for long enough since the job's end, or since somebody asked for it again."""
        if delivery.attempts >= self._settings.attempts:
            return True
        begin = delivery.since or job.times.ended
        return begin is not None and (self._clock.now() - begin).total_seconds() >= self._settings.give_up_after


def _server(url: str) -> str:
    """What of a URL names the other side: scheme, host and port."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split(r'[/?]', rest, maxsplit=1)[0].rpartition('@')[2]}"
