"""Engines as they are in the registry."""

from __future__ import annotations

from dataclasses import replace

from execution_engine.store.engine_registry import EngineRecord
from tests.support.jobs import now


def an_engine(engine: str = "node7-1", **facts: object) -> EngineRecord:
    """A record with these facts."""
    record = EngineRecord(
        id=engine,
        host="node7",
        kernel="boot/4026531836",
        pid=4711,
        run_dir="/run/execd",
        started=now(),
        lease=60.0,
        lanes=("here@node7", "cluster"),
        beats=0,
        beat_at=now(),
    )
    return replace(record, **facts)  # type: ignore[arg-type]
