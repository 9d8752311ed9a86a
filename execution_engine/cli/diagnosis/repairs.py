"""What `execd doctor --repair` does in the database: conditional writes, so that an engine that works beside is not disturbed."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from execution_engine.cli.diagnosis.findings import number
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.engine.actor import ended
from execution_engine.jobs.status import ON_SYSTEM, Status
from execution_engine.notification.notifier import Notifier
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.job_store import Change, JobStore

GRACE = timedelta(seconds=60)
"""After the end of a lease, before one that nobody took up counts as stuck."""
_LEASE = timedelta(minutes=1)
_WHY = "doctor: built and routed anew"


def earliest(patient: Patient, store: JobStore) -> datetime:
    """The time, by this machine or by the database's server: by a clock that is ahead, leases that hold seem to have ended."""
    now = patient.clock.now()
    return min(now, store.inspection.clock() or now)


def make_indexes(patient: Patient) -> str:
    """Makes the indexes that are missing or wrong."""
    with patient.store() as store:
        wrong = store.inspection.wrong_indexes()
        store.inspection.make_indexes()
    return f"made: {'; '.join(wrong) or 'nothing was missing any more'}"


def free_leases(patient: Patient, owner: str, jobs: Collection[Any]) -> str:
    """Frees jobs whose leases have long ended still; an owner that is alive after all finds its writes to them refused."""
    with patient.store() as store:
        before, now = earliest(patient, store) - GRACE, patient.clock.now()
        try:
            done = sum(store.claim_one(job_id, patient.owner, before, now + _LEASE) is not None for job_id in jobs)
        finally:
            store.release(patient.owner, now)
    return f"{number(done, 'job')} of {owner} freed" + (
        f", {len(jobs) - done:,} left: held again, or not to be read" if done < len(jobs) else ""
    )


def bury(patient: Patient, engine: EngineRecord, seconds: float) -> str:
    """Removes the record of an engine whose counter stands still for so long, by this machine's clock, and frees its jobs."""
    time.sleep(seconds)
    with patient.store() as store:
        if not store.engines.declare_dead(engine.id, engine.beats):
            return f"{engine.id} gave a sign of life, or its record is gone: nothing was done"
        jobs = store.release(f"{engine.id}/*", patient.clock.now())
    return f"the record of {engine.id} removed, {number(len(jobs), 'job')} freed"


def build_anew(patient: Patient, jobs: Collection[Any]) -> str:
    """Has jobs that were not submitted yet built and routed anew; those that somebody else has by now are left to them."""
    with patient.store() as store:
        try:
            done = sum(_build_anew(patient, store, job_id) for job_id in jobs)
        finally:
            store.release(patient.owner, patient.clock.now())
    return f"{number(done, 'job')} to be built anew"


def _build_anew(patient: Patient, store: JobStore, job_id: Any) -> bool:
    now = patient.clock.now()
    job = store.claim_one(job_id, patient.owner, now, now + _LEASE)
    if job is None or job.status is not Status.TO_BE_SUBMITTED:
        return False
    return not store.apply([Change(job, Status.TO_BE_BUILT, why=_WHY)], patient.owner, now)


def give_up(patient: Patient, lane: str, jobs: Collection[Any]) -> str:
    """Ends the jobs that a lane has which will not come back; none if an engine serves it by now."""
    notifier = Notifier(patient.config.notification)
    with patient.store() as store:
        if any(lane in engine.lanes for engine in store.engines.all()):
            return f"{lane} is served again: nothing was done"
        try:
            done = sum(_give_up(patient, store, lane, job_id, notifier) for job_id in jobs)
        finally:
            store.release(patient.owner, patient.clock.now())
    return f"{number(done, 'job')} of {lane} given up"


def _give_up(patient: Patient, store: JobStore, lane: str, job_id: Any, notifier: Notifier) -> bool:
    now = patient.clock.now()
    job = store.claim_one(job_id, patient.owner, now, now + _LEASE)
    if job is None or job.execution.lane != lane or job.status not in ON_SYSTEM | {Status.SUBMITTING}:
        return False
    message = f"given up by execd doctor: {lane} will not come back; whether its command runs on there is not known"
    change = ended(job, Status.ERROR, "node lost", message, now=now, notify=bool(notifier.targets_of(job)))
    return not store.apply([change], patient.owner, now)
