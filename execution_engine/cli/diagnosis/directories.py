"""Directories below jobs_dir that belong to no job: each is looked at, none is touched that could be somebody else's.

An orphan is a directory at the place and of the name that a job's has, made by the building of a job, of this user, older than a
day, and of no job in the database.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path

from execution_engine.building.job_directory import BUILD_LOG, shard_of
from execution_engine.cli.diagnosis.findings import Finding, Repair, number, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.jobs.exit_record import START_MARKER, is_prevented, read_exit_record
from execution_engine.jobs.job import safe_id
from execution_engine.store.job_store import JobStore

_OLD = 24 * 3600.0
_PARTS = 256


class Names:
    """A set of names, in little more than 8 bytes each: their hashes in sorted parts, small ones, as sorting takes 60 more."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]
        for each in map(_hash, names):
            self._parts[each % _PARTS].append(each)
        for at, part in enumerate(self._parts):
            self._parts[at] = array("Q", sorted(part))

    def __contains__(self, name: str) -> bool:
        wanted = _hash(name)
        part = self._parts[wanted % _PARTS]
        at = bisect_left(part, wanted)
        return at < len(part) and part[at] == wanted


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def orphans(patient: Patient, store: JobStore) -> Iterator[Finding]:
    """What takes room for nobody."""
    jobs_dir = patient.config.jobs_dir
    if not jobs_dir.is_dir():
        return
    names = Names(map(safe_id, store.inspection.ids()))
    looked_at = 0
    strays: list[Path] = []
    for directory in _job_directories(jobs_dir):
        looked_at += 1
        if directory.name not in names:
            strays.append(directory)
    yield well("directories", f"{number(looked_at, 'directory')} of jobs looked at")
    if 2 * len(strays) > looked_at:
        # A wrong database.url, or an empty database in the place of the old one, must not cost anybody's results.
        yield warning(
            "orphans",
            f"{len(strays):,} of {number(looked_at, 'directory')} belong to no job in this database",
            "is this the right database, or a new one in its place? put the right one back, or remove them by hand",
            strays,
        )
        return
    yield from _orphaned(patient, [directory for directory in strays if _is_old_and_ours(directory)])


def _orphaned(patient: Patient, found: list[Path]) -> Iterator[Finding]:
    removable: list[Path] = []
    unclear: list[Path] = []
    for directory in found:
        (unclear if _may_run(directory) else removable).append(directory)
    if unclear:
        yield warning(
            "orphans",
            f"{number(len(unclear), 'directory')} of no job in this database, whose command was started and left no end",
            "it may run still, for another database: look, and remove them by hand",
            unclear,
        )
    if removable:
        question = (
            f"Remove {number(len(removable), 'directory')} with all that is in them?  Not if another engine uses this jobs_dir."
        )
        yield warning(
            "orphans",
            f"{number(len(removable), 'directory')} of no job in this database",
            "execd doctor --repair removes them, if no engine with another database uses this jobs_dir",
            removable,
            Repair(question, partial(_remove, patient, removable)),
        )


def _job_directories(jobs_dir: Path) -> Iterator[Path]:
    """All that has the place and the name of a job's directory; links are not followed."""
    for project in _directories(jobs_dir):
        for shard in _directories(project):
            yield from (found for found in _directories(shard) if shard_of(found.name) == shard.name)


def _directories(path: Path) -> Iterator[Path]:
    """A directory that vanishes, or that is not ours to look into, has none."""
    try:
        with os.scandir(path) as entries:
            yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return


def _is_old_and_ours(directory: Path) -> bool:
    try:
        found, log = directory.lstat(), (directory / BUILD_LOG).lstat()
    except OSError:
        return False
    newest = max(found.st_mtime, found.st_ctime, log.st_mtime, log.st_ctime)
    return found.st_uid == log.st_uid == os.geteuid() and stat.S_ISREG(log.st_mode) and newest < time.time() - _OLD


def _may_run(directory: Path) -> bool:
    if is_prevented(directory):
        return False
    return os.path.lexists(directory / START_MARKER) and read_exit_record(directory) is None


def _remove(patient: Patient, directories: list[Path]) -> str:
    """Looks again first: somebody may have put the jobs back."""
    with patient.store() as store:
        names = {each.name for each in directories}.difference(map(safe_id, store.inspection.ids()))
    left = [each for each in directories if each.name in names and _is_old_and_ours(each) and not _may_run(each)]
    for directory in left:
        shutil.rmtree(directory)
    return f"{number(len(left), 'directory')} removed"


CHECKS = (orphans,)
