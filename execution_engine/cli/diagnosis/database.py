"""The database: its indexes, and its server's clock.  Whether it answers is seen by whoever connects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from execution_engine.cli.diagnosis.clocks import compared
from execution_engine.cli.diagnosis.findings import Finding, Repair, number, problem, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import make_indexes
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


CHECKS = (indexes, clock)
