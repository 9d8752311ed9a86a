"""The jobs that have not ended, in one pass: can each of them go on?  And the ended ones whose owners are still to be told."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from execution_engine.cli.diagnosis.findings import Finding, Repair, number, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import GRACE, build_anew, earliest, free_leases, give_up
from execution_engine.cli.output import dig
from execution_engine.cli.wording import date_of
from execution_engine.engine.file_system import FILES
from execution_engine.engine.lane_actor import ASIDE
from execution_engine.jobs.status import ON_SYSTEM, Status
from execution_engine.store.changes import job_on_system
from execution_engine.store.job_store import Document, JobStore

_OFTEN = 3
_MOST_COUNTED = 1000
_LANE_STATUSES = frozenset({Status.TO_BE_SUBMITTED, Status.SUBMITTING}) | ON_SYSTEM


@dataclass(slots=True)
class _Seen:
    """What one pass over the jobs has found; ids as they are in the database."""

    served: set[str]
    now: datetime
    jobs_dir: Path
    count: int = 0
    broken: list[Any] = field(default_factory=list)
    stuck: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """by the lane that nobody serves: not submitted yet"""
    held: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """by the lane that nobody serves: its system has them, or may have"""
    unheard: list[Any] = field(default_factory=list)
    """said to be on a system, without all that a system would be asked by"""
    aside: list[Any] = field(default_factory=list)
    """their system cannot be asked about them"""
    unbuilt: list[Any] = field(default_factory=list)
    gone: list[Any] = field(default_factory=list)

    def look_at(self, document: Document) -> None:
        self.count += 1
        job_id, status = document["_id"], Status(document["status"])
        if status in ON_SYSTEM | {Status.SUBMITTING} and job_on_system(document) is None:
            self.broken.append(job_id)
        self.look_at_lease(document)
        if status in ON_SYSTEM - {Status.HOLD} and not _can_be_asked_about(document):
            self.unheard.append(job_id)
        elif status in ON_SYSTEM and str(dig(document, "lease.crash") or "").startswith(ASIDE):
            self.aside.append(job_id)
        lane = dig(document, "execution.lane")
        if status not in _LANE_STATUSES or not isinstance(lane, str):
            return
        if lane not in self.served:
            (self.waiting if status is Status.TO_BE_SUBMITTED else self.held)[lane].append(job_id)
        elif self._has_lost_its_directory(document):
            (self.unbuilt if status is Status.TO_BE_SUBMITTED else self.gone).append(job_id)

    def look_at_lease(self, document: Document) -> None:
        owner, until = dig(document, "lease.owner"), date_of(document.get("lease"), "until")
        if isinstance(owner, str) and until is not None and until < self.now - GRACE:
            self.stuck[owner].append(document["_id"])

    def _has_lost_its_directory(self, document: Document) -> bool:
        directory = document.get("dir")
        return isinstance(directory, str) and Path(directory).is_relative_to(self.jobs_dir) and not Path(directory).exists()


def _can_be_asked_about(document: Document) -> bool:
    """Whether a job has all that is stored of one that a system took."""
    needed = (document.get("dir"), *(dig(document, f"execution.{name}") for name in ("lane", "name", "job_no")))
    return all(isinstance(value, str) and value for value in needed)


def unfinished(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """All jobs that have not ended."""
    engines = store.engines.all()
    served = patient.own_lanes() | {lane for engine in engines for lane in engine.lanes}
    seen = _Seen(served, earliest(patient, store), patient.config.jobs_dir)
    for document in store.inspection.unfinished():
        seen.look_at(document)
    untold: dict[str, list[str]] = defaultdict(list)
    for document in store.inspection.untold():
        seen.look_at_lease(document)
        for target, error in _failing(document):
            untold[f"{target}: {error}"].append(str(document["_id"]))
    yield well("jobs", f"{number(seen.count, 'unfinished job')} looked at")
    yield from _unknown_statuses(store)
    yield from _without_status(store)
    yield from _broken(seen)
    yield from _unfollowed(seen)
    yield from _stuck(seen, patient, {engine.id for engine in engines})
    yield from _unserved(seen, patient)
    yield from _without_directory(seen, patient)
    for failure, jobs in untold.items():
        yield problem("notification", f"{number(len(jobs), 'job')}: {failure}", "mend the target in the configuration", jobs)


def _failing(document: Document) -> Iterator[tuple[str, str]]:
    """The targets that could not be told several times, and why."""
    notified = document.get("notified")
    for target, delivery in notified.items() if isinstance(notified, dict) else ():
        if not dig(delivery, "at") and isinstance(attempts := dig(delivery, "attempts"), int) and attempts >= _OFTEN:
            yield target, f"could not be told, at least {_OFTEN} times; last: {dig(delivery, 'error')}"


def _unknown_statuses(store: JobStore) -> Iterator[Finding]:
    for status, count in store.count().items():
        if status not in set(Status):
            yield warning(
                "status",
                f"{number(count, 'document')} with the status {status!r}, which no engine knows: nobody touches them",
                "a misspelling of an app? `to be built` has a job run, `init` keeps it as a draft",
            )


def _without_status(store: JobStore) -> Iterator[Finding]:
    if count := store.inspection.without_status(_MOST_COUNTED):
        least = "at least " if count == _MOST_COUNTED else ""
        yield warning(
            "status",
            f"{least}{number(count, 'document')} without a status: nobody touches them",
            "set it to 'to be built' to have them run, or to 'init' for drafts",
        )


def _broken(seen: _Seen) -> Iterator[Finding]:
    if seen.broken:
        yield problem(
            "documents",
            f"{number(len(seen.broken), 'job')} on an execution system with broken engine fields: nobody follows them",
            "an app wrote over the engine's fields; `execd show JOB --json` has them; mend them in the database by hand",
            seen.broken,
        )


def _unfollowed(seen: _Seen) -> Iterator[Finding]:
    if seen.unheard:
        yield problem(
            "documents",
            f"{number(len(seen.unheard), 'job')} said to be on an execution system that none was given: they will not end",
            "an app set their status, which the engine does from `to be built` on; give them that status to have them run, "
            "or `execd kill JOB`",
            seen.unheard,
        )
    if seen.aside:
        yield problem(
            "execution system",
            f"{number(len(seen.aside), 'job')} set aside: the engine's process ends when it asks their system about them",
            "mend the system's class and `execd reload`; until then they end by their exit records alone",
            seen.aside,
        )


def _stuck(seen: _Seen, patient: Patient, engines: set[str]) -> Iterator[Finding]:
    """What an engine of the registry holds is its own to free, or goes with its record."""
    for owner, jobs in seen.stuck.items():
        free = Repair(f"Free the {number(len(jobs), 'job')} of {owner}?", partial(free_leases, patient, owner, jobs))
        yield problem(
            "leases",
            f"{number(len(jobs), 'job')} held by {owner}, whose lease ended long ago, and nobody has taken them up",
            "execd doctor --repair frees them when their engine is not in the registry; an engine that serves their execution "
            "system must run",
            jobs,
            None if owner.partition("/")[0] in engines else free,
        )


def _unserved(seen: _Seen, patient: Patient) -> Iterator[Finding]:
    if patient.site is None or not patient.is_its_user:
        return  # what an engine here serves is not known
    nobody = "which no execution system of this engine, and no engine of the registry serves"
    for lane, jobs in seen.held.items():
        yield problem(
            "lane",
            f"{number(len(jobs), 'job')} that {lane} has or may have, {nobody}: nobody follows them",
            "put the execution system back, or start the engine of that host; if it will not come back: execd doctor --repair "
            f"--give-up {shlex.quote(lane)}",
            jobs,
            Repair(_give_up_question(lane, len(jobs)), partial(give_up, patient, lane, jobs), lane),
        )
    for lane, jobs in seen.waiting.items():
        question = f"Build and route the {number(len(jobs), 'job')} anew that wait for {lane}?"
        yield problem(
            "lane",
            f"{number(len(jobs), 'job')} that wait for {lane}, {nobody}",
            "execd doctor --repair routes them anew; or put the execution system back, or start the engine of that host",
            jobs,
            Repair(question, partial(build_anew, patient, jobs)),
        )


def _give_up_question(lane: str, count: int) -> str:
    return (
        f"Give up the {number(count, 'job')} of {lane}?  They end in error for good, reason `node lost`, though their commands "
        "may run on there"
    )


def _without_directory(seen: _Seen, patient: Patient) -> Iterator[Finding]:
    lost = len(seen.unbuilt) + len(seen.gone)
    if not lost:
        return
    if any(outage["what"] == FILES for outage in patient.state().get("outages") or ()) and patient.master() is not None:
        yield problem(
            "jobs_dir",
            f"{number(lost, 'job')} whose directory is not there, while {FILES} is away",
            "is the file system mounted? put it back: the jobs go on",
            [*seen.unbuilt, *seen.gone],
        )
        return
    if not any(seen.jobs_dir.glob("*")):
        yield problem(
            "jobs_dir",
            f"{seen.jobs_dir} is empty or not there, and {number(lost, 'job')} had directories in it",
            "is its file system mounted?",
            [*seen.unbuilt, *seen.gone],
        )
        return
    if seen.unbuilt:
        yield problem(
            "directories",
            f"{number(len(seen.unbuilt), 'job')} whose directory is gone, not submitted yet",
            "execd doctor --repair has them built anew",
            seen.unbuilt,
            Repair(f"Build the {number(len(seen.unbuilt), 'job')} anew?", partial(build_anew, patient, seen.unbuilt)),
        )
    if seen.gone:
        yield problem(
            "directories",
            f"{number(len(seen.gone), 'job')} that run or wait in an execution system, whose directory is gone",
            "their results are lost; `execd kill JOB` ends them",
            seen.gone,
        )


CHECKS = (unfinished,)
