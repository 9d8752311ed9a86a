"""All checks, in the order in which a person reads them.  What one of them cannot see does not keep the others from looking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EDQUOT, ENOSPC
from functools import partial

from execution_engine.cli import checks
from execution_engine.cli.deadlines import ask_all
from execution_engine.cli.diagnosis import database, directories, engines, jobs, places, processes
from execution_engine.cli.diagnosis.findings import Finding, Level, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.errors import StoreError
from execution_engine.store.job_store import JobStore

_OF_THE_MACHINE = (*places.CHECKS, *engines.CHECKS)
_OF_THE_DATABASE = (*database.CHECKS, *engines.REGISTRY_CHECKS, *jobs.CHECKS, *directories.CHECKS, *processes.CHECKS)

_NOT_SEEN = "cannot be looked into"
_MORE_TIME = "a file system or the database hangs, or there is much to look at: --timeout gives it longer"
_MEND = "mend what it says; {}`execd check` shows whether it answers"
_TRIES = "the engine tries again by itself, and "


def examine(patient: Patient, seconds: float) -> Iterator[Finding]:
    """Looks at everything; each examination has so many seconds.  Makes and changes nothing; the findings bring their repairs."""
    basics = list(_basics(patient, seconds))
    yield from basics
    told = {f"outage of {found.what.removeprefix('execution ')}" for found in basics if found.level is Level.PROBLEM}
    faults = {f"{_NOT_SEEN}: {found.message}" for found in basics if found.level is Level.PROBLEM}
    questions = {check.__name__: partial(_of_the_machine, check, patient) for check in _OF_THE_MACHINE}
    questions |= {check.__name__: partial(_of_the_database, check, patient) for check in _OF_THE_DATABASE}
    for name, answers in zip(questions, ask_all([*questions.values()], seconds), strict=True):
        if answers is None:
            yield problem(name.replace("_", " "), f"no answer within {seconds:g} s", _MORE_TIME)
            continue
        for found in answers:
            if found.what in told or found.message in faults:
                continue
            if found.message.startswith(_NOT_SEEN):
                faults.add(found.message)
            yield found


def _of_the_machine(check: Callable[[Patient], Iterator[Finding]], patient: Patient) -> Iterator[Finding]:
    try:
        yield from check(patient)
    except OSError as error:
        yield _unseen(check.__name__, error)


def _of_the_database(check: Callable[[Patient, JobStore], Iterator[Finding]], patient: Patient) -> Iterator[Finding]:
    """Each opens it anew: what one cannot see does not keep the others from looking."""
    if patient.database_file is not None and not patient.database_file.exists():
        return
    try:
        with patient.store() as store:
            yield from check(patient, store)
    except StoreError as error:
        yield problem("database", f"{_NOT_SEEN}: {error}")
    except OSError as error:
        yield _unseen(check.__name__, error)


def _unseen(what: str, error: OSError) -> Finding:
    """`what`: the name of the check, for people."""
    where = f"{error.filename}: " if error.filename is not None else ""
    full = "; make room on its file system" if error.errno in (ENOSPC, EDQUOT) else ""
    return problem(what.replace("_", " "), f"cannot be seen: {where}{error.strerror or error}{full}")


def _basics(patient: Patient, seconds: float) -> Iterator[Finding]:
    """What `execd check` looks at: the database answers, the systems do, directories can be written and have room."""
    if patient.site:
        looked = checks.examine(patient.site, patient.clock, seconds)
    else:
        looked = checks.of_essentials(patient.config, patient.clock, seconds)
    mend = _MEND.format(_TRIES if patient.master() is not None else "")
    for found in looked:
        if found.what == "warning":
            yield warning("configuration", found.message)
        else:
            yield well(found.what, found.message) if found.ok else problem(found.what, found.message, mend)
