"""The engine here, whether it makes progress and what it complains of; and the other engines on the same database."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from execution_engine.cli.diagnosis.findings import Finding, Repair, number, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.cli.diagnosis.repairs import bury
from execution_engine.cli.output import dig, local_text
from execution_engine.engine import machine
from execution_engine.engine.bulletin import STALE
from execution_engine.errors import NoSuchJob
from execution_engine.master.elsewhere import RunsElsewhere, refuse_elsewhere
from execution_engine.quantities import format_duration
from execution_engine.store.engine_registry import EngineRecord
from execution_engine.store.job_store import JobStore
from execution_engine.users import name_of

_DEATHS = {
    "actor.crashed": "an actor died",
    "actor.hung": "an actor hung",
    "fork_server.hung": "a fork server hung",
    "fork_server.died": "a fork server died",
    "monitor.died": "the monitor died",
    "monitor.hung": "the monitor hung",
    "engine.dead": "an engine died",
}
_LATELY, _LONG_AGO, _MOST_ENTRIES = timedelta(hours=1), timedelta(days=30), 1000
_MOST_LOOKED_AT = 100
"""Jobs whose owners were not told: each document is read, and may be large."""
_LATE = 5.0
"""Seconds beside its lease that an engine may be late with its sign of life."""


def here(patient: Patient) -> Iterator[Finding]:
    """The engine of this run directory."""
    pid = patient.master()
    if pid == 0 and (why := patient.why_unseen()):
        yield problem("engine", f"cannot be seen by user {name_of(os.geteuid())}: {why}")
        return
    if pid is None:
        try:
            refuse_elsewhere(patient.config.file, patient.config.run_dir)
        except RunsElsewhere as error:
            yield problem("engine", f"one of this configuration runs on {error.run_dir} (pid {error.pid})", error.advice)
            return
        yield warning("engine", "is not running: jobs wait", "execd start")
        return
    if machine.stands_still(pid):
        yield problem("engine", f"the master (pid {pid}) does not answer: it was stopped by a signal", f"kill -CONT {pid}")
        return
    state = patient.state()
    age = _age(patient, state.get("at"))
    if age is None:
        yield problem("engine", f"pid {pid} runs, and has told nothing of itself", "look at its log; execd restart")
    elif age > STALE:
        yield problem(
            "engine",
            f"pid {pid} runs, but its monitor has told nothing for {format_duration(age)}: it hangs, or cannot write to run_dir",
            "look at its log; execd restart (jobs go on)",
        )
    else:
        yield well("engine", f"runs as pid {pid}, and makes progress")
    yield from _complaints(state)


def _age(patient: Patient, at: Any) -> float | None:
    try:
        return (patient.clock.now() - datetime.fromisoformat(at)).total_seconds()
    except (TypeError, ValueError):
        return None


def _complaints(state: dict[str, Any]) -> Iterator[Finding]:
    restarts = (state.get("monitor") or {}).get("restarts")
    if restarts:
        yield warning("monitor", f"was started anew {number(restarts, 'time')} since the engine's start", "its log says why")
    for outage in state.get("outages") or ():
        yield problem(
            f"outage of {outage['what']}", f"since {local_text(outage['since'])}: {outage['error']}", "the engine tries again"
        )
    for name, system in (state.get("systems") or {}).items():
        yield from _system_complaints(name, system)
    refused = (state.get("reload") or {}).get("problems")
    if refused:
        yield problem("reload", "the engine keeps its old configuration: the new one was refused", "execd check", refused)


def _system_complaints(name: str, system: dict[str, Any]) -> Iterator[Finding]:
    """A system that works, and not as one would wish."""
    if why := dig(system, "rests.why"):
        yield warning(
            f"submission to {name}",
            f"it is {dig(system, 'rests.state')} since {local_text(dig(system, 'rests.since'))}: {why}",
            "jobs wait, and the engine tries again, once a minute at most",
        )
    if slow := system.get("slow"):
        yield warning(
            f"answers of {name}", f"slow: {slow}", "its jobs end late, those without an exit record most of all; see its server"
        )


def registry(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """The engines that use this database.  One that died is found by the others; where there is none, its record stays."""
    for engine in store.engines.all():
        silent = (patient.clock.now() - engine.beat_at).total_seconds()
        name = f"{engine.id} on {engine.host} (pid {engine.pid}, {engine.run_dir})"
        if abs(silent) <= engine.lease + _LATE:
            yield well("registry", f"{name} makes progress")
            continue
        when = format_duration(abs(silent)) + (" ago" if silent > 0 else " ahead of this machine's clock")
        yield warning(
            "registry",
            f"{name} gave its last sign of life {when}: it is dead or hangs, or the clocks differ",
            "execd doctor --repair removes its record when it stays still, and frees its jobs; so does any engine that runs",
            repair=_burial(patient, engine),
        )


def deaths(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """What died lately, by the journal: the engine replaces it, and a person should know why."""
    since = patient.clock.now() - _LATELY
    died = Counter(entry.event for entry in store.journal.select(since=since, limit=_MOST_ENTRIES, events=_DEATHS))
    if died:
        what = ", ".join(f"{_DEATHS[event]} ({number(count, 'time')})" for event, count in sorted(died.items()))
        yield warning("processes of the engine", f"in the last hour: {what}", "execd events --since 1h says how and why")


def given_up(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """Messages about jobs' ends that reached nobody, by the journal; those that were sent again since are well."""
    since = patient.clock.now() - _LONG_AGO
    told = store.journal.select(since=since, limit=_MOST_ENTRIES, events=("notification.given_up",))
    lately = [*dict.fromkeys(job for entry in told for job in entry.jobs)][-_MOST_LOOKED_AT:]
    untold = [job for job in lately if _is_untold(store, job)]
    if untold:
        last = told[-1].facts
        yield warning(
            "notification",
            f"{number(len(untold), 'job')} whose owners were not told, given up; the last target: {last.get('target')}, "
            f"{last.get('error')}",
            "mend the target, then send again: execd notify JOB, or execd notify --since 7d",
            untold,
        )


def _is_untold(store: JobStore, job: str) -> bool:
    """Whether a target of the job of exactly this id is given up still."""
    try:
        job_id = store.resolve(job)
    except NoSuchJob:
        return False
    document = store.get(job_id) if str(job_id) == job else None
    notified = dig(document or {}, "notified")
    return isinstance(notified, dict) and any(dig(delivery, "given_up") is True for delivery in notified.values())


def _burial(patient: Patient, engine: EngineRecord) -> Repair:
    seconds = engine.lease + _LATE
    question = f"Watch {engine.id} for {format_duration(seconds)}, and remove its record if it gives no sign of life?"
    return Repair(question, partial(bury, patient, engine, seconds))


CHECKS = (here,)
REGISTRY_CHECKS = (registry, deaths, given_up)
