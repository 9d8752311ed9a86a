"""Signs of life while one call takes long, and for good reason."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from execution_engine.engine.channel import Channel

EVERY = 5.0


@contextmanager
def beating(channel: Channel, every: float = EVERY) -> Iterator[None]:
    """Sends a beat every few seconds until the block ends, which sends nothing itself.

    For the making of indexes, and the upgrade of a database, which take as long as there are jobs.  Nothing is forked meanwhile.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every) and channel.send({"beat": True}):
            pass

    thread = threading.Thread(target=beat, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
