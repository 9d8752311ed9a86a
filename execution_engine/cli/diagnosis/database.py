"""The database: its indexes, its server's clock, SQLite's log.  Whether it answers is seen by whoever connects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from execution_engine.cli.diagnosis.clocks import compared
from execution_engine.cli.diagnosis.findings import Finding, Repair, number, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import make_indexes
from execution_engine.quantities import format_size
from execution_engine.store.job_store import JobStore


def indexes(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """Without them queries become slower with every job that ends; SQLite refuses those that name one."""
    wrong = store.inspection.wrong_indexes()
    if not wrong:
        yield well("indexes", "all there")
        return
    yield problem(
        "indexes",
        f"{number(len(wrong), 'index')} missing or wrong: the engine becomes slow, or cannot work at all",
        "execd doctor --repair makes them; on a large database it takes a while",
        wrong,
        Repair("Make the indexes?", partial(make_indexes, patient)),
    )


def clock(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """The server's clock stands for those of all other machines."""
    before = patient.clock.now()
    there = store.inspection.clock()
    if there is not None:
        yield compared("clock of the database", there, before, patient.clock.now(), patient.config.engine.lease)


def log(patient: Patient, store: JobStore) -> Iterator[Finding]:  # noqa: ARG001 - each check is given both
    """What is in SQLite's log is taken over into the database while nobody reads what came before it."""
    file = patient.database_file
    path = Path(f"{file}-wal")
    if file is not None and path.exists() and (size := path.stat().st_size) > _LARGE_LOG:
        yield warning(
            "write-ahead log",
            f"{path} has grown to {format_size(size)}: a process that reads the database for long keeps it from shrinking",
            f"`fuser -v {path}` names those that have it open; end the one that hangs",
        )


_LARGE_LOG = 256 << 20

CHECKS = (indexes, clock, log)
