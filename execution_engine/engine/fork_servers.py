"""The fork servers of a monitor: those from which actors are forked now, and old ones whose last actors still work."""

from __future__ import annotations

import selectors
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from execution_engine.engine.accepted import Accepted
from execution_engine.engine.channel import Message
from execution_engine.engine.fork_server import ForkServer
from execution_engine.errors import ConfigError

_WARM_UP_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Crew:
    """The fork servers of one configuration: one for each environment that its systems need, and a plain one for all else."""

    plain: ForkServer
    of_system: Mapping[str, ForkServer]
    systems: tuple[dict[str, Any], ...]
    """what the plain one said of the systems that it has loaded"""

    def of(self, system: str | None) -> ForkServer:
        """From which server an actor that works with this system is forked."""
        return self.plain if system is None else self.of_system[system]

    def __contains__(self, server: ForkServer) -> bool:
        return server is self.plain or server in self.of_system.values()


class ForkServers:
    """Starts, replaces and dismisses them, and keeps the monitor's selector up to date."""

    def __init__(self, engine: str, selector: selectors.BaseSelector) -> None:
        self._engine = engine
        self._selector = selector
        self._servers: list[ForkServer] = []

    def __contains__(self, server: ForkServer) -> bool:
        return server in self._servers

    def __iter__(self) -> Iterator[ForkServer]:
        return iter(list(self._servers))

    def warm_up(self, accepted: Accepted) -> Crew:
        """New servers that have loaded these plug-ins.

        Raises ConfigError with all that is wrong; the servers that there are stay as they are.
        """
        before = set(self._servers)
        try:
            plain, ready = self._warm_up(accepted, {})
            servers: dict[frozenset[tuple[str, str]], ForkServer] = {frozenset(): plain}
            for system in ready["systems"]:
                key = frozenset(system["environment"].items())
                if key not in servers:
                    servers[key], _ = self._warm_up(accepted, system["environment"])
        except ConfigError:
            for server in set(self._servers) - before:
                self.dismiss(server)
            raise
        of_system = {system["name"]: servers[frozenset(system["environment"].items())] for system in ready["systems"]}
        return Crew(plain, of_system, tuple(ready["systems"]))

    def _warm_up(self, accepted: Accepted, environment: Mapping[str, str]) -> tuple[ForkServer, Message]:
        server = ForkServer(accepted, self._engine, environment)
        server.start()
        message = self._first_message(server)
        if "ready" not in message:
            server.stop()
            raise ConfigError(message["failed"])
        self._servers.append(server)
        self._selector.register(server.channel, selectors.EVENT_READ, server)
        return server, message["ready"]

    def _first_message(self, server: ForkServer) -> Message:
        with selectors.DefaultSelector() as selector:
            selector.register(server.channel, selectors.EVENT_READ)
            if not selector.select(_WARM_UP_TIMEOUT):
                return {"failed": [f"the plug-ins were not loaded within {_WARM_UP_TIMEOUT:g} s; one of them hangs"]}
            try:
                return server.channel.receive() or {"failed": ["the fork server said nothing"]}
            except EOFError:
                return {"failed": ["the fork server died while it loaded the plug-ins; its traceback is on the engine's stderr"]}

    def dismiss(self, server: ForkServer) -> None:
        """Ends a server (its actors, if it has any, die with it)."""
        if server in self._servers:
            self._servers.remove(server)
            self._selector.unregister(server.channel)
            server.stop()

    def close(self) -> None:
        """Ends all of them."""
        for server in self:
            self.dismiss(server)
