"""All checks, in the order in which a person reads them.  What one of them cannot see does not keep the others from looking."""

from __future__ import annotations

from collections.abc import Iterator

from execution_engine.cli import checks
from execution_engine.cli.diagnosis import database, directories, engines, jobs, places, processes
from execution_engine.cli.diagnosis.findings import Finding, Level, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.errors import StoreError

_OF_THE_MACHINE = (*places.CHECKS, *engines.CHECKS)
_OF_THE_DATABASE = (*database.CHECKS, *engines.REGISTRY_CHECKS, *jobs.CHECKS, *directories.CHECKS, *processes.CHECKS)

_MEND = "mend what it says; the engine tries again by itself, and `execd check` shows whether it answers"


def examine(patient: Patient) -> Iterator[Finding]:
    """Looks at everything.  Makes and changes nothing; the findings bring their repairs."""
    basics = list(_basics(patient))
    yield from basics
    told = {f"outage of {found.what.removeprefix('execution ')}" for found in basics if found.level is Level.PROBLEM}
    for check in _OF_THE_MACHINE:
        try:
            yield from (found for found in check(patient) if found.what not in told)
        except OSError as error:
            yield _unseen(check.__name__, error)
    if patient.database_file is not None and not patient.database_file.exists():
        return
    faults = {found.message for found in basics if found.level is Level.PROBLEM}
    for question in _OF_THE_DATABASE:
        try:
            with patient.store() as store:
                yield from question(patient, store)
        except StoreError as error:
            if str(error) not in faults:
                faults.add(str(error))
                yield problem("database", f"cannot be looked into: {error}")
        except OSError as error:
            yield _unseen(question.__name__, error)


def _unseen(what: str, error: OSError) -> Finding:
    return problem(what, f"cannot be seen: {error}")


def _basics(patient: Patient) -> Iterator[Finding]:
    """What `execd check` looks at: the database answers, the systems do, directories can be written and have room."""
    looked = checks.examine(patient.site, patient.clock) if patient.site else checks.of_essentials(patient.config, patient.clock)
    for found in looked:
        if found.what == "warning":
            yield warning("configuration", found.message)
        else:
            yield well(found.what, found.message) if found.ok else problem(found.what, found.message, _MEND)
