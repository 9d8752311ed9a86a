"""What is examined: a configuration, what was made of it, and what is known of the engines that work with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from execution_engine.clock import Clock
from execution_engine.config import Config
from execution_engine.engine import state
from execution_engine.engine.assembly import Site, lane
from execution_engine.errors import DaemonError
from execution_engine.master.pid_file import holder
from execution_engine.store import open_store
from execution_engine.store.job_store import JobStore

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Patient:
    """One engine's configuration and surroundings, whether it runs or not."""

    config: Config
    """all of it, or only its essentials while `site` is None"""
    site: Site | None
    """None: the configuration is bad, or a plug-in does not load"""
    clock: Clock
    owner: str = field(default_factory=lambda: f"doctor-{socket.gethostname()}-{os.getpid()}/doctor")
    """in whose name repairs take leases"""

    @property
    def database_file(self) -> Path | None:
        """The embedded database, if it is one."""
        url = self.config.database.url
        return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None

    @property
    def is_its_user(self) -> bool:
        """Whether this process runs as the engine's user, as far as there is one yet."""
        try:
            return self.config.run_dir.stat().st_uid == os.geteuid()
        except OSError:
            return True

    @contextmanager
    def store(self) -> Iterator[JobStore]:
        """The connected database; nothing is made.  Raises StoreError."""
        with open_store(self.config.database, self.clock) as store:
            yield store

    def master(self) -> int | None:
        """The process id of the engine that runs here, 0 for one that runs here but cannot be named; None: none runs."""
        try:
            return holder(self.config.run_dir)
        except DaemonError:
            return 0

    def why_unseen(self) -> str | None:
        """Why the engine that runs here cannot be named, and what to do; None: it can, or none runs."""
        try:
            holder(self.config.run_dir)
        except DaemonError as error:
            return str(error)
        return None

    def state(self) -> dict[str, Any]:
        """What the engine here told of itself last."""
        return state.of_engine(self.config.run_dir)

    def own_lanes(self) -> set[str]:
        """The lanes that an engine with this configuration serves on this host, and those that the one that runs serves."""
        planned = {lane(plan) for plan in self.site.systems.values()} if self.site is not None else set()
        running = self.state().get("systems", {}).values() if self.master() is not None else ()
        return planned | {system["lane"] for system in running}
