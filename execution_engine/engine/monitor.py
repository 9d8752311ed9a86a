"""The monitor: finds out which jobs are due, and sees to it that an actor takes them up.

Each turn: wait, hear what the actors and the fork server say, reap and replace, ask the database which jobs are due, hand out the
work: which, says `Demand`.  It never touches a job itself, nor loads a plug-in: what can hang, leak or crash does so in an actor.
"""

from __future__ import annotations

import os
import selectors
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import Config, load_anew
from execution_engine.engine import machine, state
from execution_engine.engine.accepted import Accepted
from execution_engine.engine.beating import beating
from execution_engine.engine.bulletin import Bulletin
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.chronicle import Chronicle
from execution_engine.engine.demand import Demand
from execution_engine.engine.file_system import FILES
from execution_engine.engine.fork_server import ForkServer
from execution_engine.engine.fork_servers import Crew, ForkServers
from execution_engine.engine.outages import Outages
from execution_engine.engine.presence import Presence
from execution_engine.engine.releases import Releases
from execution_engine.engine.roster import Post, Roster, Worker
from execution_engine.engine.schedule import Pace
from execution_engine.engine.systems_watch import SystemsWatch
from execution_engine.engine.wake import WakeSocket
from execution_engine.errors import ConfigError, StoreError
from execution_engine.store import open_store

_DATABASE = "database"
_JOURNAL = "journal"
_BEAT_INTERVAL = 5.0
_STOP_TIMEOUT = 30.0


class Monitor:
    """One monitor process.  `master` is its channel to the master, which it tells `ready`, `beat`, `reloaded` and `refused`."""

    def __init__(self, accepted: Accepted, master: Channel, clock: Clock, restarts: int = 0) -> None:
        self._accepted = accepted
        self._master = master
        self._clock = clock
        self._engine = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._restarts = restarts
        self._stop_by: float | None = None
        self._last_beat = 0.0

    @property
    def _config(self) -> Config:
        return self._accepted.config

    def boot(self) -> None:
        """Opens the database, warms the fork servers up, takes over what the last engine on this run directory left.

        Raises ConfigError or StoreError when the engine cannot start.
        """
        config, clock = self._config, self._clock
        self._store = open_store(config.database, clock)
        self._open_database()
        self._selector = selectors.DefaultSelector()
        self._wake = WakeSocket(config.run_dir)
        self._wake.open(self._selector)
        self._selector.register(self._master, selectors.EVENT_READ)
        self._outages = Outages(clock)
        self._roster = Roster(clock, self._selector, self._outages, self._on_message, self._on_death)
        self._roster.database = self._store.identity
        self._pace = Pace(clock, config.engine.poll_interval)
        self._watch = SystemsWatch(clock)
        self._demand = Demand(self._store, self._outages, self._pace, self._watch, self._roster, clock)
        self._releases = Releases(self._store, clock)
        self._presence = Presence(self._store.engines, self._engine, config.run_dir, self._releases, clock)
        self._chronicle = Chronicle(self._store.journal, self._engine, clock)
        self._bulletin = Bulletin(config, self._engine, self._restarts, clock)
        self._servers = ForkServers(self._engine, self._selector)
        self._employ(self._servers.warm_up(self._accepted))
        self._take_over()
        self._tell_unserved()
        self._publish()
        self._master.send({"ready": self._engine})

    def _open_database(self) -> None:
        """Makes an embedded one at the engine's start only: one that goes away later is waited for, with its jobs."""
        before = state.read(self._config.run_dir, state.ENGINE)
        known = str(before.get("database", "")) if self._restarts else ""
        with beating(self._master):
            self._store.boot(create=not known, identity=known)
        if not self._restarts:
            self._store.inspection.try_out()
        state.write(self._config.run_dir, state.ENGINE, {**before, "database": self._store.identity})

    def _take_over(self) -> None:
        """The engine that ran here before is gone (the run directory is ours): its leases are nobody's.

        Only when they are free is it forgotten, or nobody would know of them if this monitor died too.  While the database is
        away they wait to be freed.
        """
        previous = state.read(self._config.run_dir, state.ENGINE).get("engine")
        events.emit("monitor.started", engine=self._engine, previous=previous)
        if isinstance(previous, str) and previous:
            self._releases.add_engine(previous)
        with self._talking():
            for engine in self._presence.predecessors():
                self._releases.add_engine(engine)
            self._releases.carry_out()
            self._remember()

    def _remember(self) -> None:
        """For the next engine on this run directory."""
        place = machine.remember(self._accepted.place)
        known = {"engine": self._engine, "database": self._store.identity, "place": place}
        state.write(self._config.run_dir, state.ENGINE, known)

    def _keep_memory(self) -> None:
        """Somebody may have emptied the run directory: without it nobody would free what this engine leaves."""
        if not (self._config.run_dir / state.ENGINE).exists() and not self._releases:
            with suppress(OSError):  # the bulletin, which cannot be written either then, tells of it
                self._remember()

    def _employ(self, crew: Crew) -> None:
        """From now on actors are forked from these servers, for the systems that they have loaded."""
        settings = self._config.engine
        self._outages.delays = self._watch.rests.delays = settings.retry_delay
        self._pace.interval = settings.poll_interval
        self._roster.deadline, self._roster.crashes = settings.actor_deadline, settings.crashes
        self._roster.employ(crew)
        self._watch.set_systems(crew.systems, settings.status_interval)
        self._presence.serve((lane for _name, lane in self._watch.lanes()), settings.lease)
        self._chronicle.keep = settings.keep_events
        actors = settings.actors
        posts = {Post("building"): actors.building, Post("notification"): actors.notification, Post("request"): 1}
        for system in crew.systems:
            name = system["name"]
            posts[Post("submit", name)] = 1 if system["slots"] is not None else actors.submit
            posts[Post("status", name)] = posts[Post("request", name)] = posts[Post("accounting", name)] = 1
        self._roster.open_posts(posts)

    def _tell_unserved(self) -> None:
        """Jobs of a system that was taken out of the configuration, or of another host, wait until somebody serves them."""
        with self._talking():
            served, lanes = self._presence.lanes_of_all(), self._store.lanes()
            for lane in sorted(set(lanes) - served):
                events.emit("lane.unserved", lane=lane, count=sum(lanes[lane].values()))

    @contextmanager
    def _talking(self, what: str = _DATABASE) -> Iterator[None]:
        """To the database, which may be away, or to the journal in it, which may be all that cannot be written."""
        try:
            yield
        except StoreError as error:
            self._outages.report(what, str(error))

    # --- the loop

    def run(self) -> None:
        """Works until the master says stop, or is gone.

        Raises LeaseLost or DaemonError when this engine must not go on beside the others on its database.
        """
        while not self._finished():
            self._wait()
            self._dismiss_old_servers()
            self._roster.sweep()
            if not self._outages.waits(_DATABASE):
                self._work()
            self._beat()

    def _work(self) -> None:
        """All that needs the database, the journal last: no job waits for it."""
        with self._talking():
            if again := self._outages.error(_DATABASE) is not None:
                self._store.inspection.try_out(jobs_only=True)  # with a write: a full disk can still be read
            self._presence.turn(now=again)
            self._release()
            if self._stop_by is None and self._presence.may_work:
                self._demand.poll()
            self._outages.over(_DATABASE)
        if self._stop_by is None and self._presence.may_work:
            self._demand.look_at_systems()
        self._keep_journal()

    def _release(self) -> None:
        """Raises StoreError."""
        if self._releases:
            self._pace.at_once()
            self._releases.carry_out()

    def _keep_journal(self) -> None:
        """Stores what happened, unless the database is away."""
        if self._outages.error(_DATABASE) is None and not self._outages.waits(_JOURNAL):
            with self._talking(_JOURNAL):
                if stored := self._chronicle.turn():
                    self._master.send({"stored": stored})
                self._outages.over(_JOURNAL)

    def close(self) -> None:
        """Ends what is left and gives everything back."""
        self._servers.close()
        self._releases.add_engine(self._engine)
        with self._talking():
            self._release()
        self._keep_journal()
        self._wake.close()
        self._store.close()
        self._selector.close()

    def _wait(self) -> None:
        for key, _mask in self._selector.select(self._timeout()):
            if key.fileobj is self._wake:
                self._news(self._wake.receive())
            elif key.fileobj is self._master:
                self._hear_master()
            elif isinstance(key.data, Worker):
                self._roster.hear(key.data)
            elif isinstance(key.data, ForkServer):
                self._hear_server(key.data)

    def _timeout(self) -> float:
        if self._stop_by is not None or self._outages.waits(_DATABASE):
            return 0.1
        return max(0.0, min(self._pace.remaining(), self._watch.remaining(), self._presence.remaining()))

    def _news(self, systems: set[str]) -> None:
        for name in systems:
            self._watch.woken(name)
        if not systems:
            self._pace.at_once()

    def _hear_server(self, server: ForkServer) -> None:
        if server not in self._servers:
            return
        try:
            self._roster.hear_server(server)
        except EOFError:
            events.emit("fork_server.died", server_pid=server.pid, code=server.ended())
            self._roster.server_died(server)
            self._servers.dismiss(server)
            if server in self._roster.crew and self._stop_by is None:
                self._employ(self._servers.warm_up(self._accepted))

    def _dismiss_old_servers(self) -> None:
        """Those that were replaced, as soon as their last actor has ended."""
        for server in self._servers:
            if server not in self._roster.crew and not self._roster.employs(server):
                self._servers.dismiss(server)

    # --- actors that speak and die

    def _on_message(self, worker: Worker, message: Message) -> None:
        self._demand.hear(worker.post, message)

    def _on_death(self, worker: Worker, how: str | None, code: int) -> None:
        """Its jobs are free again, each charged with the crash; not so when what the actor needs was out of reach.

        Nor when it hung with many: the file system may have.  The next one looks, and then takes them one by one.
        """
        if code != 0 or how is not None:
            blamed = None if worker.hung and not worker.careful else how
            self._releases.add(f"{self._engine}/{worker.name}", blamed, self._roster.rest(worker.post))
            if worker.post.system is not None:
                self._watch.at_once(worker.post.system)  # what it did last it could not tell
                self._watch.room(worker.post.system)

    # --- the master

    def _hear_master(self) -> None:
        try:
            while (message := self._master.receive()) is not None:
                if "stop" in message:
                    self._stop()
                elif "reload" in message:
                    self._reload(Path(message["reload"]))
                elif "journal" in message:
                    self._chronicle.add(message["journal"])
        except EOFError:
            self._selector.unregister(self._master)
            self._stop()

    def _reload(self, path: Path) -> None:
        """Takes the new configuration if all of it is good, else keeps the old one and says why."""
        try:
            accepted = Accepted.read(load_anew(path, self._config))
            crew = self._servers.warm_up(accepted)
        except ConfigError as error:
            self._master.send({"refused": error.problems})
            self._bulletin.reloaded(error.problems)
        else:
            self._accepted = accepted
            self._tell_accepted(path)
            self._employ(crew)
            self._reconsider()
            self._tell_unserved()
            self._bulletin.reloaded([])
        self._publish()

    def _tell_accepted(self, path: Path) -> None:
        """The master gives it to the next monitor."""
        fd = self._accepted.to_file()
        self._master.send({"reloaded": str(path)}, fd=fd)
        os.close(fd)

    def _reconsider(self) -> None:
        """What did not answer may have been the old configuration's fault."""
        systems = [name for name, _lane in self._watch.lanes()]
        posts = self._roster.posts()
        self._outages.reconsider(
            {_DATABASE, _JOURNAL, "jobs_dir", FILES, *(f"system {name}" for name in systems), *(post.outage for post in posts)}
        )
        for name in systems:
            self._watch.at_once(name)
        self._pace.at_once()

    def _stop(self) -> None:
        if self._stop_by is None:
            self._stop_by = self._clock.monotonic() + _STOP_TIMEOUT
            self._roster.stop()

    def _finished(self) -> bool:
        if self._stop_by is None:
            return False
        if self._clock.monotonic() > self._stop_by:
            self._roster.kill()
        return not any(self._roster.workers())

    def _beat(self) -> None:
        """Tells the master, and whoever asks, that this loop makes progress."""
        now = self._clock.monotonic()
        if now - self._last_beat >= _BEAT_INTERVAL:
            self._last_beat = now
            self._master.send({"beat": True})
            self._wake.keep()
            self._keep_memory()
        if self._bulletin.due():
            self._publish()

    def _publish(self) -> None:
        systems = self._watch.describe()
        for name, facts in systems.items():
            error = self._outages.error(f"system {name}")
            facts.update(ok=error is None, message=error or "", last_error=self._outages.last(f"system {name}"))
        self._bulletin.publish(actors=self._roster.describe(), systems=systems, outages=self._outages.report_all())
