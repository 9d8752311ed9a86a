"""The living actors: who works at which post, who is idle, who died, who hangs."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable, Iterator
from typing import Any

from execution_engine import events
from execution_engine.clock import Clock
from execution_engine.engine.channel import Message
from execution_engine.engine.fork_server import ForkServer
from execution_engine.engine.fork_servers import Crew
from execution_engine.engine.lifeline import EXIT_OUTAGE, ending
from execution_engine.engine.outages import Outages
from execution_engine.engine.staff import Post, Staff, Worker

__all__ = ["Post", "Roster", "Worker"]

_BEHIND_OTHERS = 0.5


class Roster:
    """Starts actors where they are wanted, up to a limit for each post.

    `on_message(worker, message)` and `on_death(worker, crash, code)` tell the monitor; `crash` says how the actor died if its
    jobs may be to blame.  The channels of living actors are in the selector, with the worker as data.

    A post whose actors die one after the other without any work done in between is an outage, and costs no job: see `Staff`.
    """

    def __init__(
        self,
        clock: Clock,
        selector: selectors.BaseSelector,
        outages: Outages,
        on_message: Callable[[Worker, Message], None],
        on_death: Callable[[Worker, str | None, int], None],
    ) -> None:
        self._clock = clock
        self._selector = selector
        self._outages = outages
        self.deadline = 0.0
        self.crashes = 1
        """deaths in a row that one job may be charged with"""
        self.database = ""
        """the identity of the only database that actors may use"""
        self._on_message, self._on_death = on_message, on_death
        self.resting: set[Post] = set()
        """where an actor begins with one job, because its system took no more of late"""
        self._staff: dict[Post, Staff] = {}
        self._unborn: dict[int, Worker] = {}
        self._number = 0
        self.crew: Crew

    def employ(self, crew: Crew) -> None:
        """From now on actors are forked from these servers; those of others finish their batch and end."""
        self.crew = crew
        for worker in self.workers():
            if worker.server not in crew:
                self._tell(worker, {"stop": True})

    def employs(self, server: ForkServer) -> bool:
        """Whether an actor of this server lives."""
        return any(worker.server is server for worker in self.workers())

    def open_posts(self, posts: dict[Post, int]) -> None:
        """The posts that there are from now on, and how many actors each may have at a time."""
        for post in set(self._staff) - set(posts):
            self._staff[post].limit = 0
            if not self._staff[post].workers:
                del self._staff[post]
        for post, limit in posts.items():
            staff = self._staff.setdefault(post, Staff(limit))
            staff.limit, staff.not_before = limit, 0.0  # what was wrong may have been mended

    def posts(self) -> list[Post]:
        """All posts that there are."""
        return list(self._staff)

    def rest(self, post: Post) -> float:
        """Seconds before the jobs that the last actor had are tried again: after a death, others have their turn first."""
        pause = self._staff[post].not_before - self._clock.monotonic()
        return pause + _BEHIND_OTHERS if pause > 0 else 0.0

    def workers(self) -> Iterator[Worker]:
        """All living actors."""
        for staff in list(self._staff.values()):
            yield from list(staff.workers)

    def want(self, post: Post) -> None:
        """There is work at this post: wakes an idle actor, starts one, or remembers it until one is free."""
        staff = self._staff.get(post)
        if staff is None:
            return
        idle = next((worker for worker in staff.workers if worker.idle and worker.server in self.crew), None)
        if idle is not None:
            idle.idle, idle.poked, idle.last_beat = False, True, self._clock.monotonic()
            self._tell(idle, {"go": True})
        elif len(staff.workers) < staff.limit and self._clock.monotonic() >= staff.not_before:
            self._start(post, staff)
        else:
            staff.wanted = True

    def _start(self, post: Post, staff: Staff) -> None:
        self._number += 1
        now = self._clock.monotonic()
        name = f"{post.kind}-{self._number}"
        spec = {"kind": post.kind, "system": post.system, "name": name, "careful": staff.careful, "database": self.database}
        spec["resting"] = post in self.resting
        server = self.crew.of(post.system)
        worker = Worker(post, name, server.fork(self._number, spec), server, now, now, careful=staff.careful)
        staff.wanted = False
        staff.workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        self._unborn[self._number] = worker

    # --- what is heard

    def hear(self, worker: Worker) -> None:
        """Reads what an actor sent.  How it ended is told by its fork server."""
        if not worker.heard:
            return
        try:
            while (message := worker.channel.receive()) is not None:
                worker.last_beat = self._clock.monotonic()
                worker.last_words = message.get("failed", worker.last_words)
                self._take_progress(worker, message)
                self._on_message(worker, message)
                if "idle" in message:
                    self._rest(worker)
        except EOFError:
            self._hang_up(worker)
            self._owes_a_sign(worker)  # that it has ended

    def _hang_up(self, worker: Worker) -> None:
        if worker.heard:
            worker.heard = False
            self._selector.unregister(worker.channel)
            worker.channel.close()

    def _tell(self, worker: Worker, message: Message) -> None:
        if worker.heard:
            worker.channel.send(message)

    def _take_progress(self, worker: Worker, message: Message) -> None:
        """Work that was done speaks for the post; a look at a system's jobs, for the other posts of that system, too."""
        did = message.get("did")
        worker.did = worker.did or did is not None
        if "progress" in message or (did and any(did.values())) or (worker.did and "idle" in message):
            self._staff[worker.post].succeeded()
            self._outages.over(worker.post.outage)
        if did and did.get("active"):
            for post, staff in self._staff.items():
                staff.witnessed = staff.witnessed or post.system == worker.post.system

    def _rest(self, worker: Worker) -> None:
        staff = self._staff[worker.post]
        worker.idle, worker.poked = True, False
        if worker.careful:
            staff.careful = False
        if staff.wanted:
            staff.wanted = False
            self.want(worker.post)

    def hear_server(self, server: ForkServer) -> None:
        """Reads what a fork server sent: births and deaths.  Raises EOFError when the server is gone."""
        while (message := server.channel.receive()) is not None:
            if "forked" in message:
                worker = self._unborn.pop(message["forked"])
                worker.pid, worker.last_beat = message["pid"], self._clock.monotonic()
                events.emit("actor.started", actor=worker.name, post=str(worker.post), actor_pid=worker.pid)
            elif "not_forked" in message:
                worker = self._unborn.pop(message["not_forked"])
                self._bury(worker, f"could not be forked: {message['error']}", 0)
            elif "ended" in message:
                for worker in [each for each in self.workers() if each.server is server and each.pid == message["ended"]]:
                    self._ended(worker, message["status"])

    def _ended(self, worker: Worker, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if worker.hung:
            how: str | None = f"hung: no progress for {self.deadline:g} s"
        else:
            how = None if code in (0, EXIT_OUTAGE) else ending(code)
        self.hear(worker)
        if how is not None and worker.last_words:
            how = f"{how}: {worker.last_words}"
        self._bury(worker, how, code)

    def server_died(self, server: ForkServer) -> None:
        """All actors of a fork server die with it."""
        for worker in self.workers():
            if worker.server is server:
                worker.blameless = True
                self._bury(worker, "died with its fork server", -signal.SIGKILL)
        self._unborn = {number: worker for number, worker in self._unborn.items() if worker.server is not server}

    def _bury(self, worker: Worker, how: str | None, code: int) -> None:
        staff = self._staff[worker.post]
        staff.workers.remove(worker)
        worker.ended = True
        charged = how is not None and not worker.blameless
        if how is not None:
            charged = staff.died(worker, self._clock.monotonic(), self.crashes) and charged
            events.emit("actor.hung" if worker.hung else "actor.crashed", actor=worker.name, post=str(worker.post), how=how)
            if staff.fails:
                words = f"{staff.deaths} actors died in a row and did no work; the last one {how}"
                self._outages.report(worker.post.outage, words)
        else:
            events.emit("actor.ended", actor=worker.name, post=str(worker.post), code=code)
        self._hang_up(worker)
        self._on_death(worker, how if charged else None, code)
        if (worker.poked or staff.wanted) and code == 0:
            self.want(worker.post)

    # --- deadlines and the end

    def sweep(self) -> None:
        """Kills whoever owes a sign for longer than the deadline, and starts the actors that are wanted still.

        A busy actor owes a beat.  A fork server owes the birth of an actor, and its end when that was killed or has closed its
        channel.
        """
        for worker in self.workers():
            if self._is_late(worker):
                self.hear(worker)  # this process may be the one that stood still
                self._hear_silent(worker.server)
            if not self._is_late(worker) or worker.server.hung:
                continue
            if worker.pid and worker.heard and not worker.hung:
                worker.hung = True
                worker.server.kill(worker.pid)
                self._owes_a_sign(worker)
            else:
                events.emit("fork_server.hung", server_pid=worker.server.pid, seconds=self.deadline)
                worker.server.kill_itself()
        for post, staff in self._staff.items():
            if staff.wanted and len(staff.workers) < staff.limit:
                self.want(post)

    def _is_late(self, worker: Worker) -> bool:
        return not worker.idle and not worker.ended and self._clock.monotonic() - worker.last_beat > self.deadline

    def _owes_a_sign(self, worker: Worker) -> None:
        worker.idle, worker.last_beat = False, self._clock.monotonic()

    def _hear_silent(self, server: ForkServer) -> None:
        with contextlib.suppress(EOFError):  # its end is taken notice of in its turn
            self.hear_server(server)

    def stop(self) -> None:
        """Asks all actors to finish their batch and end."""
        for staff in self._staff.values():
            staff.wanted, staff.limit = False, 0
        for worker in self.workers():
            worker.poked = False
            self._tell(worker, {"stop": True})

    def kill(self) -> None:
        """Kills those that are left; their jobs are not to blame."""
        for worker in self.workers():
            worker.blameless = True
            if worker.pid:
                worker.server.kill(worker.pid)

    def describe(self) -> list[dict[str, Any]]:
        """For `execd status`."""
        return [
            {"title": str(worker.post), "name": worker.name, "pid": worker.pid, "state": "idle" if worker.idle else "busy"}
            for worker in self.workers()
        ]
