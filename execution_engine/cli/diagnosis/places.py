"""Directories and files: whose they are, who can look into them, room for bytes and inodes, the clock of their file system."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from execution_engine.cli.diagnosis.clocks import compared
from execution_engine.cli.diagnosis.findings import Finding, Repair, number, problem, warning, well
from execution_engine.cli.diagnosis.patient import Patient
from execution_engine.clock import from_timestamp
from execution_engine.engine import state
from execution_engine.users import as_user, name_of

_PRIVATE = 0o077
_TEMPORARY = re.compile(r"\.(?:state|engine)\.json\.(\d+)")


def owners(patient: Patient) -> Iterator[Finding]:
    """One user must own all of it: a start as root, once, leaves files that the daemon's user cannot write."""
    there = [path for path in _own_files(patient) if path.exists()]
    if not there:
        return
    owned_by = {path: path.stat().st_uid for path in there}
    user = Counter(owned_by.values()).most_common(1)[0][0]
    others = [path for path in there if owned_by[path] != user]
    for path in others:
        yield problem(
            "owner",
            f"{path} belongs to {name_of(owned_by[path])}, what else the engine has to {name_of(user)}: it runs as one user",
            _whose(path, owned_by[path], user),
        )
    if not others:
        yield well("owner", f"all files belong to {name_of(user)}")
    if not patient.is_its_user:
        yield warning("user", f"the engine's files belong to {name_of(user)}, not to who calls this", as_user(user))


def _whose(path: Path, owner: int, user: int) -> str:
    """What to do about a file of another user than the engine's.  Only root has anything to give away."""
    if owner == 0:
        return f"as root: chown {shlex.quote(name_of(user))} {shlex.quote(str(path))}"
    return f"it is {name_of(owner)}'s: {as_user(owner)}, or let the configuration name a place of this engine's own"


def _own_files(patient: Patient) -> list[Path]:
    config = patient.config
    files = [config.run_dir, config.jobs_dir, config.log.file]
    return files if patient.database_file is None else [*files, patient.database_file]


def private(patient: Patient) -> Iterator[Finding]:
    """Who can enter the run directory can command the engine; who can read the database can read all jobs."""
    database = patient.database_file
    for what, path in (("run_dir", patient.config.run_dir), ("database", database)):
        if path is None or not path.exists():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _PRIVATE:
            yield problem(
                f"{what} mode",
                f"{path} has mode {mode:04o}: other users can use it",
                f"chmod go= {path}",
                repair=Repair(f"Close {path} to others?", partial(_close, path)) if _is_mine(path) else None,
            )


def _is_mine(path: Path) -> bool:
    return path.stat().st_uid == os.geteuid()


def _close(path: Path) -> str:
    mode = stat.S_IMODE(path.stat().st_mode) & ~_PRIVATE
    path.chmod(mode)
    return f"{path} has mode {mode:04o} now"


def clock_of_jobs_dir(patient: Patient) -> Iterator[Finding]:
    """When a job started and ended is read from its files: on a network file system, by the clock of the file server."""
    directory = patient.config.jobs_dir
    if not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        return
    before = patient.clock.now()
    with tempfile.TemporaryFile(dir=directory) as probe:
        probe.write(b"execd doctor")
        probe.flush()
        written = from_timestamp(os.fstat(probe.fileno()).st_mtime)
    yield compared("clock of jobs_dir", written, before, patient.clock.now(), patient.config.engine.lease)


def run_files(patient: Patient) -> Iterator[Finding]:
    """The engine's own small files: one that cannot be read hides what it says, one that was left half written is in the way."""
    directory = patient.config.run_dir
    if not (directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)):
        return
    for name in (state.STATE, state.ENGINE):
        if (directory / name).exists() and not _is_json(directory / name):
            yield problem(f"run_dir {name}", f"{directory / name} cannot be read", "the engine writes it anew: execd restart")
    left = _left_over(directory)
    if left:
        yield warning(
            "run_dir",
            f"{number(len(left), 'file')} left there half written by processes that died",
            "execd doctor --repair removes them",
            left,
            Repair("Remove them?", partial(_remove, directory)),
        )


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text("utf-8")), dict)
    except (OSError, ValueError):
        return False


def _left_over(directory: Path) -> list[Path]:
    """The temporary files of processes that are gone."""
    found = ((path, _TEMPORARY.fullmatch(path.name)) for path in sorted(directory.iterdir()))
    return [path for path, match in found if match and not psutil.pid_exists(int(match[1]))]


def _remove(directory: Path) -> str:
    left = _left_over(directory)
    for path in left:
        path.unlink(missing_ok=True)
    return f"{number(len(left), 'file')} removed"


CHECKS = (owners, private, clock_of_jobs_dir, run_files)
