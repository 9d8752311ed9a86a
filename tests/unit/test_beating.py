"""Signs of life while one call takes long."""

from __future__ import annotations

import threading

from execution_engine.engine.beating import beating
from execution_engine.engine.channel import Channel
from tests.support.engines import until


def test_a_long_call_gives_signs_of_life_until_it_ends() -> None:
    here, there = Channel.pair()
    with beating(here, every=0.01):
        for _ in range(3):
            assert until(there.receive, "a beat") == {"beat": True}
    assert [thread for thread in threading.enumerate() if thread.name == "beating"] == []
    while there.receive() is not None:
        continue
    assert there.receive() is None


def test_nobody_who_listens_any_more_ends_the_signs_of_life_too() -> None:
    here, there = Channel.pair()
    there.close()
    with beating(here, every=0.01):
        until(lambda: not any(thread.name == "beating" for thread in threading.enumerate()), "it has ended")
