"""Places for deliveries: a few at each server, none for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from execution_engine.clock import SystemClock
from execution_engine.config import Notification
from execution_engine.jobs.job import Job
from execution_engine.notification import deliveries, sending, targets
from execution_engine.notification.deliveries import Deliveries
from execution_engine.notification.notifier import Errand, Notifier, Result
from tests.support.engines import until

TIMEOUT = 0.2
SETTINGS = Notification.model_validate({"timeout": TIMEOUT, "allow_urls": True})


class Servers:
    """Stands for the network: who is `stuck` never comes back, whatever is done to its connections."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.at_once: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.release = threading.Event()
        self._lock = threading.Lock()

    def send(self, url: str, _message: object, **_options: Any) -> None:
        server = url.split("/")[2]
        with self._lock:
            self.at_once[server] = self.at_once.get(server, 0) + 1
            self.most[server] = max(self.most.get(server, 0), self.at_once[server])
        if server == "stuck":
            self.release.wait(60)
            raise targets.DeliveryFailed("too late")
        with self._lock:
            self.at_once[server] -= 1
        self.told.append(url)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    network = Servers()
    monkeypatch.setattr(sending, "send", network.send)
    monkeypatch.setattr(deliveries, "_SLACK", 0.1)
    monkeypatch.setattr(deliveries, "_SLOW", 0.1)
    yield network
    network.release.set()


def errands(notifier: Notifier, server: str, count: int) -> list[Errand]:
    jobs = [
        Job.from_document({"_id": f"{server}{n}", "status": "finished", "command": "x", "notify": [f"json://{server}/{n}"]})
        for n in range(count)
    ]
    return [errand for job in jobs for errand in notifier.errands(job)]


def test_a_server_whose_deliveries_never_come_back_keeps_its_places_and_no_others(servers: Servers) -> None:
    notifier = Notifier(SETTINGS, SystemClock())
    desk = Deliveries(notifier, SystemClock(), TIMEOUT)
    came: list[tuple[Errand, Result]] = []
    for errand in [*errands(notifier, "stuck", 50), *errands(notifier, "good", 20)]:
        desk.add(errand)

    def all_came() -> bool:
        came.extend(desk.results(0.05))
        return len(came) == 70

    until(all_came, "each errand has a result", 20)
    by_server = {name: [result for errand, result in came if name in errand.server] for name in ("stuck", "good")}
    assert len(servers.told) == 20
    assert all(result.delivery.at for result in by_server["good"])
    tried = [result for result in by_server["stuck"] if result.delivery.attempts]
    assert 1 <= len(tried) == servers.most["stuck"] <= 8
    assert all("nothing came of it" in str(result.delivery.error) for result in tried)
    assert all(result.again_in for result in by_server["stuck"])

    for errand in errands(notifier, "good", 5):
        desk.add(errand)
    until(lambda: (came.extend(desk.results(0.05)), len(came) == 75)[1], "others are told while its places are held", 20)
    assert servers.most["stuck"] <= 8
    desk.close()


def test_what_is_withdrawn_is_waited_for_a_moment_only(servers: Servers) -> None:
    notifier = Notifier(SETTINGS, SystemClock())
    desk = Deliveries(notifier, SystemClock(), 60)
    for errand in [*errands(notifier, "stuck", 2), *errands(notifier, "good", 2)]:
        desk.add(errand)
    came = desk.results(0.0)
    until(lambda: len(servers.told) == 2, "the good ones are sent")
    came += desk.withdraw(0.1)
    assert {errand.server for errand, _ in came} == {"json://good"}
    assert len(came) == 2
    assert desk.results(0.0) == []
    desk.close()
