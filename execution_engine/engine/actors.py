"""All actors by kind, and what an actor process does from its first line to its last."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from execution_engine import events
from execution_engine.clock import SystemClock
from execution_engine.engine.accounting_actor import AccountingActor
from execution_engine.engine.actor import Actor, Stop, Workplace
from execution_engine.engine.assembly import Site
from execution_engine.engine.building_actor import BuildingActor
from execution_engine.engine.channel import Channel
from execution_engine.engine.lifeline import EXIT_OUTAGE
from execution_engine.engine.notification_actor import NotificationActor
from execution_engine.engine.request_actor import RequestActor
from execution_engine.engine.status_actor import StatusActor
from execution_engine.engine.submit_actor import SubmitActor
from execution_engine.errors import StoreUnavailable
from execution_engine.store import open_store

KINDS: dict[str, Callable[[Workplace, str | None], Actor]] = {
    "building": lambda place, _system: BuildingActor(place),
    "submit": lambda place, system: SubmitActor(place, _named(system)),
    "status": lambda place, system: StatusActor(place, _named(system)),
    "accounting": lambda place, system: AccountingActor(place, _named(system)),
    "request": RequestActor,
    "notification": lambda place, _system: NotificationActor(place),
}


def run_actor(spec: dict[str, Any], channel: Channel, site: Site, engine: str) -> int:
    """The life of one actor process.  `spec`: its `kind`, `name` and, for some kinds, `system`.  Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the monitor says when to stop
    kind, name, system = spec["kind"], spec["name"], spec.get("system")
    setproctitle(f"execd: {kind}{f' {system}' if system else ''}")
    sink = events.SocketSink(site.config.run_dir / "log")
    events.send_to(sink, process=name)
    clock = SystemClock()
    store = open_store(site.config.database, clock)
    try:
        store.boot(identity=spec.get("database", ""))
        owner, careful, resting = f"{engine}/{name}", bool(spec.get("careful")), bool(spec.get("resting"))
        place = Workplace(site, store, clock, channel, owner=owner, careful=careful, resting=resting)
        return KINDS[kind](place, system).run()
    except StoreUnavailable as error:
        channel.send({"outage": "database", "error": str(error)})
        return EXIT_OUTAGE
    except Stop:
        return 0
    finally:
        store.close()


def _named(system: str | None) -> str:
    if system is None:
        raise ValueError("this kind of actor works with one execution system; its name is missing")
    return system
