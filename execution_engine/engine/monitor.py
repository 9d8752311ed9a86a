"""The monitor: finds out which jobs are due, and sees to it that an actor takes them up.

Each turn: wait, hear what the actors and the fork server say, reap and replace, ask the database which jobs are due, hand out the
work.  It never touches a job itself, nor loads a plug-in: what can hang, leak or crash does so in an actor.
"""

from __future__ import annotations

import selectors
import socket
import uuid
from pathlib import Path

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.config import Config, load
from execution_engine.engine import state
from execution_engine.engine.bulletin import Bulletin
from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.fork_server import ForkServer
from execution_engine.engine.fork_servers import Crew, ForkServers
from execution_engine.engine.outages import Outages
from execution_engine.engine.releases import Releases
from execution_engine.engine.roster import Post, Roster, Worker
from execution_engine.engine.schedule import Pace
from execution_engine.engine.systems_watch import SystemsWatch
from execution_engine.engine.wake import WakeSocket
from execution_engine.errors import ConfigError, StoreError
from execution_engine.store import open_store
from execution_engine.store.job_store import Query, Work

_DATABASE = "database"
_BEAT_INTERVAL = 5.0
_STOP_TIMEOUT = 30.0


class Monitor:
    """One monitor process.  `master` is its channel to the master, which it tells `ready`, `beat`, `reloaded` and `refused`."""

    def __init__(self, config: Config, master: Channel, clock: Clock, restarts: int = 0) -> None:
        self._config = config
        self._master = master
        self._clock = clock
        self._engine = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self._restarts = restarts
        self._stop_by: float | None = None
        self._last_beat = 0.0

    def boot(self) -> None:
        """Opens the database, warms the fork servers up, takes over what the last engine on this run directory left.

        Raises ConfigError or StoreError when the engine cannot start.
        """
        config, clock = self._config, self._clock
        self._store = open_store(config.database, clock)
        self._open_database()
        self._selector = selectors.DefaultSelector()
        self._wake = WakeSocket(config.run_dir)
        self._wake.open()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._master, selectors.EVENT_READ)
        self._outages = Outages(clock)
        self._roster = Roster(clock, self._selector, self._on_message, self._on_death)
        self._roster.database = self._store.identity
        self._pace = Pace(clock, config.engine.poll_interval)
        self._watch = SystemsWatch(clock)
        self._releases = Releases(self._store, clock)
        self._bulletin = Bulletin(config.run_dir, self._engine, self._restarts, clock)
        self._servers = ForkServers(self._engine, self._selector)
        self._employ(self._servers.warm_up(config))
        self._take_over()
        self._tell_unserved()
        self._publish()
        self._master.send({"ready": self._engine})

    def _open_database(self) -> None:
        """Makes an embedded one at the engine's start only: one that goes away later is waited for, with its jobs."""
        before = state.read(self._config.run_dir, state.ENGINE)
        known = str(before.get("database", "")) if self._restarts else ""
        self._store.boot(create=not known, identity=known)
        state.write(self._config.run_dir, state.ENGINE, {**before, "database": self._store.identity})

    def _take_over(self) -> None:
        """The engine that ran here before is gone (the run directory is ours): its leases are nobody's."""
        previous = state.read(self._config.run_dir, state.ENGINE).get("engine")
        if isinstance(previous, str) and previous:
            self._releases.add(f"{previous}/*")
        state.write(self._config.run_dir, state.ENGINE, {"engine": self._engine, "database": self._store.identity})
        events.emit("monitor.started", engine=self._engine, previous=previous)

    def _employ(self, crew: Crew) -> None:
        """From now on actors are forked from these servers, for the systems that they have loaded."""
        settings = self._config.engine
        self._outages.delays = settings.retry_delay
        self._pace.interval = settings.poll_interval
        self._roster.deadline = settings.actor_deadline
        self._roster.employ(crew)
        self._watch.set_systems(crew.systems, settings.status_interval)
        actors = settings.actors
        posts = {Post("building"): actors.building, Post("notification"): actors.notification, Post("request"): 1}
        for system in crew.systems:
            name = system["name"]
            posts[Post("submit", name)] = 1 if system["slots"] is not None else actors.submit
            posts[Post("status", name)] = posts[Post("request", name)] = 1
        self._roster.open_posts(posts)

    def _tell_unserved(self) -> None:
        """Jobs of a system that was taken out of the configuration, or of another host, wait until somebody serves them."""
        served = {lane for _name, lane in self._watch.lanes()}
        try:
            lanes = self._store.lanes()
        except StoreError as error:
            self._outages.report(_DATABASE, str(error))
            return
        for lane in sorted(set(lanes) - served):
            events.emit("lane.unserved", lane=lane, count=sum(lanes[lane].values()))

    # --- the loop

    def run(self) -> None:
        """Works until the master says stop, or is gone."""
        while not self._finished():
            self._wait()
            self._dismiss_old_servers()
            self._roster.sweep()
            if self._stop_by is None and not self._outages.waits(_DATABASE):
                self._release_the_dead()
                self._poll()
                self._look_at_systems()
            self._beat()

    def close(self) -> None:
        """Ends what is left and gives everything back."""
        self._servers.close()
        self._release_the_dead()
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
        return max(0.0, min(self._pace.remaining(), self._watch.remaining(), 1.0))

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
                self._employ(self._servers.warm_up(self._config))

    def _dismiss_old_servers(self) -> None:
        """Those that were replaced, as soon as their last actor has ended."""
        for server in self._servers:
            if server not in self._roster.crew and not self._roster.employs(server):
                self._servers.dismiss(server)

    # --- what the actors say

    def _on_message(self, worker: Worker, message: Message) -> None:
        post = worker.post
        if "outage" in message:
            self._outages.report(_thing(message["outage"], post), str(message.get("error", "")))
        elif "works" in message:
            self._outages.over(_thing(message["works"], post))
        elif "full" in message and post.system:
            self._watch.full(post.system, full=message["full"])
        elif "did" in message:
            self._did(post, message["did"])

    def _did(self, post: Post, did: Message) -> None:
        """A batch is done: whoever has the next step with these jobs is wanted now, without waiting for a poll."""
        for lane in did.get("built", {}):
            if (name := self._watch.system_of(lane)) is not None:
                self._want_submit(name)
        if post.system is not None:
            self._did_on_system(post.system, post.kind, did)
        if did.get("answered"):
            self._pace.at_once()
        if did.get("notify"):
            self._roster.want(Post("notification"))

    def _did_on_system(self, system: str, kind: str, did: Message) -> None:
        if did.get("submitted"):
            self._watch.submitted(system)
        if did.get("answered"):
            self._watch.at_once(system)
        if kind == "status":
            self._watch.asked(system, active=did["active"], changed=did["changed"])
            if did["ended"]:
                self._want_submit(system)

    def _on_death(self, worker: Worker, how: str | None, code: int) -> None:
        """Its jobs are free again, each charged with the crash; not so when what the actor needs was out of reach."""
        if code != 0 or how is not None:
            self._releases.add(f"{self._engine}/{worker.name}", how)
            if worker.post.system is not None:
                self._watch.at_once(worker.post.system)  # what it did last it could not tell

    def _release_the_dead(self) -> None:
        if not self._releases:
            return
        try:
            self._releases.carry_out()
        except StoreError as error:
            self._outages.report(_DATABASE, str(error))
        self._pace.at_once()

    # --- what is due

    def _poll(self) -> None:
        if not self._pace.due():
            return
        try:
            due = self._store.due(self._queries(), self._clock.now())
        except StoreError as error:
            self._outages.report(_DATABASE, str(error))
            return
        self._outages.over(_DATABASE)
        for query in due:
            self._hand_out(query)
        self._pace.looked(news=bool(due))

    def _queries(self) -> list[Query]:
        queries = [Query(Work.NOTIFICATION), Query(Work.REQUEST)]
        if not self._outages.waits("jobs_dir"):
            queries.append(Query(Work.BUILDING))
        for name, lane in self._watch.lanes():
            if not self._outages.waits(f"system {name}"):
                queries.append(Query(Work.REQUEST, lane))
                if self._watch.may_submit(name):
                    queries.append(Query(Work.SUBMIT, lane))
        return queries

    def _hand_out(self, query: Query) -> None:
        system = self._watch.system_of(query.lane) if query.lane is not None else None
        self._roster.want(Post(str(query.work), system))

    def _want_submit(self, system: str) -> None:
        self._watch.room(system)
        if not self._outages.waits(f"system {system}"):
            self._roster.want(Post("submit", system))

    def _look_at_systems(self) -> None:
        for name in self._watch.due():
            self._watch.looking(name)
            if not self._outages.waits(f"system {name}"):
                self._roster.want(Post("status", name))

    # --- the master

    def _hear_master(self) -> None:
        try:
            while (message := self._master.receive()) is not None:
                if "stop" in message:
                    self._stop()
                elif "reload" in message:
                    self._reload(Path(message["reload"]))
        except EOFError:
            self._selector.unregister(self._master)
            self._stop()

    def _reload(self, path: Path) -> None:
        """Takes the new configuration if all of it is good, else keeps the old one and says why."""
        try:
            config = load(path)
            _refuse_what_needs_a_restart(self._config, config)
            crew = self._servers.warm_up(config)
        except ConfigError as error:
            self._master.send({"refused": error.problems})
            self._bulletin.reloaded(error.problems)
        else:
            self._config = config
            self._employ(crew)
            self._tell_unserved()
            self._master.send({"reloaded": str(path)})
            self._bulletin.reloaded([])
        self._publish()

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
        if self._bulletin.due():
            self._publish()

    def _publish(self) -> None:
        systems = self._watch.describe()
        for name, facts in systems.items():
            error = self._outages.error(f"system {name}")
            facts.update(ok=error is None, message=error or "", last_error=self._outages.last(f"system {name}"))
        self._bulletin.publish(actors=self._roster.describe(), systems=systems, outages=self._outages.report_all())


def _thing(what: str, post: Post) -> str:
    """What does not answer, by its name."""
    return f"system {post.system}" if what == "system" else what


def _refuse_what_needs_a_restart(old: Config, new: Config) -> None:
    changed = {"database": old.database != new.database, "run_dir": old.run_dir != new.run_dir}
    problems = [f"{new.file}: {key}: a change needs `execd restart`" for key, is_new in changed.items() if is_new]
    if problems:
        raise ConfigError(problems)
