"""Who works at a post: its actors, and what their deaths say about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from execution_engine.engine.channel import Channel
from execution_engine.engine.fork_server import ForkServer

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 30.0
_WITHOUT_LEASES = ("status", "accounting")
"""the kinds of actors that hold their jobs by leases only when they take them one by one"""


@dataclass(frozen=True, slots=True)
class Post:
    """A kind of work, for one execution system where the work belongs to one."""

    kind: str
    system: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.system}" if self.system else self.kind

    @property
    def outage(self) -> str:
        """What it is called while its actors die."""
        return f"post {self}"


@dataclass(slots=True)
class Worker:
    """One actor process as the monitor sees it."""

    post: Post
    name: str
    channel: Channel
    server: ForkServer
    started: float
    last_beat: float
    pid: int = 0
    idle: bool = False
    poked: bool = False
    careful: bool = False
    hung: bool = False
    blameless: bool = False
    """it is ended for a reason that has nothing to do with its jobs"""
    heard: bool = True
    """its channel is watched: it has not closed its end yet"""
    ended: bool = False
    """its end was told"""
    did: bool = False
    """it got to the end of a turn that had work"""
    last_words: str = ""
    """of what it died, as it says"""


@dataclass(slots=True)
class Staff:
    """The actors of a post.

    Who is to blame for a death?  A job that ends its actor, or what all jobs need: a file system that hangs, a library that is
    broken.  What is done in between tells.  A hang is charged to the jobs at hand only if work was done at this post since the
    last death, or was seen to be done for the same system; of crashes, which no outage explains as easily, `crashes` in a row
    are, so that one job alone in its queue comes to an end.  From then on the post fails, and no job is charged.  The jobs that
    an actor died with come behind others, so that one of them does not keep the others from being such a witness.
    """

    limit: int
    wanted: bool = False
    """work came while everybody was busy"""
    careful: bool = False
    """the last actor died: the next one takes one job at a time, so that the job that kills it is known"""
    deaths: int = 0
    """in a row, without work done in between"""
    fails: bool = False
    """they are no job's fault"""
    witnessed: bool = False
    """its system has been seen to work since the last death"""
    not_before: float = 0.0
    delay: float = _FIRST_DELAY
    """after a death, before the next one is started; doubles until work is done"""
    workers: list[Worker] = field(default_factory=list)

    def succeeded(self) -> None:
        """Work was done here."""
        self.deaths, self.fails, self.delay = 0, False, _FIRST_DELAY

    def died(self, worker: Worker, now: float, crashes: int) -> bool:
        """An actor died of something.  Whether its jobs may be charged with it."""
        self.deaths += 1
        in_a_row = 1 if worker.hung else crashes + (worker.post.kind in _WITHOUT_LEASES)  # the first of those charges nobody
        charged = self.deaths <= in_a_row or (worker.hung and self.witnessed)
        self.fails = not charged
        self.witnessed = False
        self.careful = self.careful or not worker.blameless
        self.not_before = now + self.delay
        self.delay = min(self.delay * 2, _LONGEST_DELAY)
        return charged
