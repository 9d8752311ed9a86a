"""The channel between two processes of an engine."""

from __future__ import annotations

import pytest

from execution_engine.engine.channel import Channel


def test_the_last_words_of_a_process_that_has_not_read_all_it_was_sent_are_heard() -> None:
    ours, theirs = Channel.pair()
    assert ours.send({"go": True})
    assert theirs.send({"failed": "why"})
    assert theirs.send({"and": "this"})
    theirs.close()
    assert ours.receive() == {"failed": "why"}
    assert ours.receive() == {"and": "this"}
    with pytest.raises(EOFError):
        ours.receive()
    ours.close()
