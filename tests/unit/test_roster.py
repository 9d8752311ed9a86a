"""Who is to blame for the death of an actor, and who is taken for dead: with fork servers that a test speaks for."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Iterator

import pytest

from execution_engine.engine.channel import Channel, Message
from execution_engine.engine.fork_servers import Crew
from execution_engine.engine.outages import Outages
from execution_engine.engine.roster import Post, Roster
from tests.support.clocks import HeldClock

BUILDING, SUBMIT, STATUS = Post("building"), Post("submit", "odd"), Post("status", "odd")
DEADLINE = 60.0


class Server:
    """A fork server without a process."""

    def __init__(self) -> None:
        self.channel, self.speaks = Channel.pair()
        self.pid, self.hung = 1, False
        self.actors: dict[int, Channel] = {}
        self.killed: list[int] = []

    def fork(self, number: int, _spec: Message) -> Channel:
        ours, theirs = Channel.pair()
        self.actors[number] = theirs
        return ours

    def kill(self, pid: int) -> None:
        self.killed.append(pid)

    def kill_itself(self) -> None:
        self.hung = True


class Stage:
    """A roster, its fork servers, and what it told of the deaths."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.outages = Outages(self.clock)
        self.charged: list[str | None] = []
        self.selector = selectors.DefaultSelector()
        self.roster = Roster(self.clock, self.selector, self.outages, lambda *_: None, self._died)
        self.roster.deadline, self.roster.crashes = DEADLINE, 3
        self.plain, self.other = Server(), Server()
        self.roster.employ(Crew(self.plain, {"odd": self.other}, ()))  # type: ignore[arg-type, dict-item]
        self.roster.open_posts({BUILDING: 1, SUBMIT: 1, STATUS: 1})
        self.pid = 100

    def _died(self, _worker: object, crash: str | None, _code: int) -> None:
        self.charged.append(crash)

    def actor(self, post: Post) -> tuple[Channel, int]:
        """A new actor at this post: its end of the channel, and its process id."""
        self.clock.move(100.0)
        server = self.plain if post is BUILDING else self.other
        before = set(server.actors)
        self.roster.want(post)
        (number,) = set(server.actors) - before
        self.pid += 1
        self.say(server, {"forked": number, "pid": self.pid})
        return server.actors[number], self.pid

    def say(self, server: Server, message: Message) -> None:
        server.speaks.send(message)
        self.roster.hear_server(server)  # type: ignore[arg-type]

    def hear(self) -> None:
        for worker in self.roster.workers():
            self.roster.hear(worker)

    def ends(self, post: Post, pid: int, status: int) -> None:
        self.say(self.plain if post is BUILDING else self.other, {"ended": pid, "status": status})

    def crashes(self, post: Post, number: int = signal.SIGSEGV) -> None:
        _channel, pid = self.actor(post)
        self.ends(post, pid, number)

    def hangs(self, post: Post) -> None:
        _channel, pid = self.actor(post)
        self.clock.move(DEADLINE + 1)
        self.roster.sweep()
        self.ends(post, pid, signal.SIGKILL)

    def works(self, post: Post, **did: int) -> None:
        channel, pid = self.actor(post)
        channel.send({"did": did, "idle": True})
        self.hear()
        self.ends(post, pid, 0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.selector.close()


def test_a_hang_after_work_is_charged_and_those_that_follow_are_an_outage(stage: Stage) -> None:
    stage.works(BUILDING, built=1)
    for _ in range(3):
        stage.hangs(BUILDING)
    assert [bool(crash) for crash in stage.charged[1:]] == [True, False, False]
    assert "hung" in str(stage.outages.error("post building"))
    stage.works(BUILDING, built=1)
    assert stage.outages.error("post building") is None
    stage.hangs(BUILDING)
    assert stage.charged[-1]


def test_crashes_are_charged_as_often_in_a_row_as_one_job_may_have_them(stage: Stage) -> None:
    for _ in range(5):
        stage.crashes(BUILDING, 40)
    assert [bool(crash) for crash in stage.charged] == [True, True, True, False, False]
    assert "signal 40" in str(stage.outages.error("post building"))


def test_an_actor_that_found_nothing_to_do_shows_nothing(stage: Stage) -> None:
    for _ in range(4):
        stage.hangs(BUILDING)
        channel, pid = stage.actor(BUILDING)
        channel.send({"idle": True})
        stage.hear()
        stage.ends(BUILDING, pid, 0)
    assert [crash for crash in stage.charged if crash] == stage.charged[:1]


def test_a_look_at_the_jobs_of_its_system_is_a_witness_for_a_submission_that_hangs(stage: Stage) -> None:
    for _ in range(3):
        stage.hangs(SUBMIT)
        stage.works(STATUS, active=3, changed=0)
    assert len([crash for crash in stage.charged if crash]) == 3
    assert stage.outages.error(SUBMIT.outage) is None
    for _ in range(2):
        stage.hangs(SUBMIT)
        stage.works(STATUS, active=0, changed=0)
    assert stage.outages.error(SUBMIT.outage), "nothing was looked at"


def test_an_end_that_another_fork_server_tells_of_is_another_actors(stage: Stage) -> None:
    _channel, pid = stage.actor(BUILDING)
    stage.say(stage.other, {"ended": pid, "status": 0})
    assert [worker.pid for worker in stage.roster.workers()] == [pid]


def test_a_fork_server_owes_a_birth_within_the_deadline(stage: Stage) -> None:
    stage.roster.want(BUILDING)
    stage.clock.move(DEADLINE + 1)
    stage.roster.sweep()
    assert (stage.plain.hung, stage.other.hung) == (True, False)


def test_a_birth_that_was_told_while_nobody_listened_is_in_time(stage: Stage) -> None:
    stage.roster.want(BUILDING)
    stage.plain.speaks.send({"forked": 1, "pid": 7})
    stage.clock.move(DEADLINE + 1)
    stage.roster.sweep()
    assert (stage.plain.hung, stage.plain.killed) == (False, [])


def test_the_end_of_a_hung_actor_that_was_told_while_nobody_listened_is_in_time(stage: Stage) -> None:
    _channel, pid = stage.actor(BUILDING)
    stage.clock.move(DEADLINE + 1)
    stage.roster.sweep()
    assert stage.plain.killed == [pid]
    stage.plain.speaks.send({"ended": pid, "status": signal.SIGKILL})
    stage.clock.move(DEADLINE + 1)
    stage.roster.sweep()
    assert (stage.plain.hung, list(stage.roster.workers())) == (False, [])
