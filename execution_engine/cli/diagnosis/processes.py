"""Processes of jobs that have ended: what a command left running, and nobody ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

from execution_engine.cli.diagnosis.findings import Finding, number, problem
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.errors import NoSuchJob
from execution_engine.jobs.status import FINAL
from execution_engine.store.job_store import JobStore


def left_over(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """Those of this host that carry the directory of an ended job, or attempt, in their environment."""
    for (job, attempt), pids in _by_attempt(patient.config.jobs_dir).items():
        status = _ended(store, job, attempt)
        if status is not None:
            yield problem(
                "processes",
                f"{number(len(pids), 'process')} of job {job}, which is {status}",
                f"look at them, then end them: kill {' '.join(map(str, pids))}",
                pids,
            )


def _by_attempt(jobs_dir: Path) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("EXECD_JOB_DIR", "").startswith(f"{jobs_dir}/") and (job := environment.get("EXECD_JOB_ID")):
            found[job, environment.get("EXECD_ATTEMPT", "")].append(process.pid)
    return found


def _ended(store: JobStore, job: str, attempt: str) -> str | None:
    """What the job of exactly this id is, if that or its attempt has ended; None for one of another database."""
    try:
        job_id = store.resolve(job)
    except NoSuchJob:
        return None
    document = store.get(job_id) if str(job_id) == job else None
    if document is None:
        return None
    now = document.get("attempt", 1)
    if attempt.isdecimal() and isinstance(now, int) and int(attempt) != now:
        return f"at attempt {now}, this is attempt {attempt}" if int(attempt) < now else None
    status = document.get("status")
    return status if isinstance(status, str) and status in FINAL else None


CHECKS = (left_over,)
