"""The fork servers of a monitor: the one from which actors are forked now, and old ones whose last actors still work."""

from __future__ import annotations

import selectors

from execution_engine.config import Config
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.fork_server import ForkServer
from execution_engine.errors import ConfigError

_WARM_UP_TIMEOUT = 60.0


class ForkServers:
    """Starts, replaces and dismisses them, and keeps the monitor's selector up to date."""

    def __init__(self, engine: str, selector: selectors.BaseSelector) -> None:
        self._engine = engine
        self._selector = selector
        self._servers: list[ForkServer] = []

    def warm_up(self, config: Config) -> tuple[ForkServer, Message]:
        """A new server that has loaded the configuration's plug-ins, and what it says of the systems.

        Raises ConfigError with all that is wrong; the servers that there are stay as they are.
        """
        server = ForkServer(config, self._engine)
        server.start()
        message = self._first_message(server)
        if "ready" not in message:
            server.stop()
            raise ConfigError(message["failed"])
        self._servers.append(server)
        self._selector.register(server.channel, selectors.EVENT_READ)
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

    def of(self, channel: Channel) -> ForkServer | None:
        """The server whose channel this is."""
        return next((server for server in self._servers if server.channel is channel), None)

    def dismiss(self, server: ForkServer) -> None:
        """Ends a server (its actors, if it has any, die with it)."""
        if server in self._servers:
            self._servers.remove(server)
            self._selector.unregister(server.channel)
            server.stop()

    def close(self) -> None:
        """Ends all of them."""
        for server in list(self._servers):
            self.dismiss(server)
