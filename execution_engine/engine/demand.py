"""Which actors are wanted: by the jobs that are due in the database, by what actors have done, by the systems to be asked."""

from __future__ import annotations

from execution_engine.clock import Clock
from execution_engine.engine.channel import Message
from execution_engine.engine.file_system import FILES
from execution_engine.engine.outages import Outages
from execution_engine.engine.roster import Post, Roster
from execution_engine.engine.schedule import Pace
from execution_engine.engine.systems_watch import SystemsWatch
from execution_engine.store.job_store import JobStore, Query, Work


class Demand:
    """Tells the roster at which posts there is work; at none whose system, or whatever else it needs, does not answer now."""

    def __init__(self, store: JobStore, outages: Outages, pace: Pace, watch: SystemsWatch, roster: Roster, clock: Clock) -> None:
        self._store = store
        self._outages = outages
        self._pace = pace
        self._watch = watch
        self._roster = roster
        self._clock = clock

    # --- what the actors say

    def hear(self, post: Post, message: Message) -> None:
        """Takes what the actor at this post says."""
        if "files" in message:
            self._outages.over(FILES, message["files"])
        if "works" in message:
            self._outages.over(_thing(message["works"], post), message["at"])
        if "outage" in message:
            self._outages.report(_thing(message["outage"], post), str(message.get("error", "")), message.get("since"))
        if "full" in message and post.system:
            self._watch.full(post.system, full=message["full"], looked=message["looked"])
        if "refused" in message and post.system:
            self._watch.rests.refused(post.system, **message["refused"])
            self._roster.resting.add(post)
        if "takes" in message and post.system:
            self._watch.rests.over(post.system)
            self._roster.resting.discard(post)
        if "slow" in message and post.system:
            self._watch.slow(post.system, post.kind, message["slow"])
        if "did" in message:
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
            self._watch.room(system)
            self._watch.rests.room(system)
        if kind == "status":
            self._watch.asked(system, active=did["active"], changed=did["changed"])
            if did["lost"]:
                self._roster.want(Post("accounting", system))
        if did.get("ended"):
            self._watch.rests.room(system)
            self._want_submit(system)

    def _want_submit(self, system: str) -> None:
        self._watch.room(system)
        if not self._waits(system) and not self._watch.rests.waits(system):
            self._roster.want(Post("submit", system))

    def _waits(self, system: str) -> bool:
        """Whether it is too early to try the system again, or the files without which nothing can be done there."""
        return self._outages.waits(f"system {system}") or self._outages.waits(FILES)

    # --- what is due

    def poll(self) -> None:
        """Asks the database which jobs are due, when it is time.  Raises StoreError."""
        again = self._outages.any_again()  # look now: a status actor that is sent at the same time may begin the next wait
        if not again and not self._pace.due():
            return
        due = self._store.due(self._queries(), self._clock.now())
        for query in due:
            self._roster.want(Post(str(query.work), self._watch.system_of(query.lane)))
        self._pace.looked(news=bool(due))

    def _queries(self) -> list[Query]:
        queries = [Query(Work.NOTIFICATION), Query(Work.REQUEST)]
        if not self._outages.waits("jobs_dir") and not self._outages.waits(FILES):
            queries.append(Query(Work.BUILDING))
        for name, lane in self._watch.lanes():
            if not self._waits(name):
                queries.append(Query(Work.REQUEST, lane))
                if self._watch.may_submit(name):
                    queries.append(Query(Work.SUBMIT, lane))
        return queries

    def look_at_systems(self) -> None:
        """Has those asked about their jobs that are to be asked now."""
        for name in self._watch.due():
            self._watch.looking(name)
            if not self._waits(name):
                self._roster.want(Post("status", name))


def _thing(what: str, post: Post) -> str:
    """What does not answer, by its name."""
    return f"system {post.system}" if what == "system" else what
