"""What `execd check` looks at once the configuration is good: the database, the execution systems, the directories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from execution_engine.cli import probe
from execution_engine.clock import Clock
from execution_engine.config import Config, Database, safety
from execution_engine.engine.assembly import Site
from execution_engine.errors import StoreError
from execution_engine.quantities import format_size
from execution_engine.store import open_store
from execution_engine.users import making, name_of, nearest

_LEAST_FREE = 10 << 20
_LEAST_INODES = 1000
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    message: str


def examine(site: Site, clock: Clock) -> Iterator[Finding]:
    """Looks at everything, whatever the first things turn out to be.  Makes nothing: the engine's user, not this one, should."""
    yield from _configuration(site)
    for name, plan in site.systems.items():
        health = probe.health(plan, site.config.file)
        yield Finding(f"execution system {name}", health.ok, health.message or ("answers" if health.ok else "does not answer"))
    yield from of_essentials(site.config, clock)


def of_essentials(config: Config, clock: Clock) -> Iterator[Finding]:
    """Looks at user, database and directories: all that can be seen when the rest of the configuration is bad."""
    if safety.runs_as_root(config):
        yield Finding("warning", True, safety.AS_ROOT)
    if wrong := safety.wrong_user(config):
        yield Finding("user", False, wrong)
    unsafe = dict(safety.faults(config))
    yield Finding("database", False, unsafe["database"]) if "database" in unsafe else _database(config.database, clock)
    yield from _directories(config, unsafe)


def _configuration(site: Site) -> Iterator[Finding]:
    config = site.config
    yield Finding("configuration", True, str(config.file))
    for warning in config.warnings:
        yield Finding("warning", True, warning)
    for file in site.plugin_files:
        yield Finding("plug-in", True, str(file))
    for route in config.routes:
        rules = ", ".join(rule.name for rule in route.rules)
        yield Finding(f"route {route.name}", True, f"{rules or 'every job'} → {route.execution_system}")


def _database(database: Database, clock: Clock) -> Finding:
    try:
        if (embedded := database.file) is not None:
            directory = _writable("database", embedded.parent, f"{embedded} is not there yet; the engine makes it")
            if not directory.ok or not embedded.exists():
                return directory
        with open_store(database, clock) as store:
            server = store.ping()
            store.inspection.try_out()
            return Finding("database", True, server)
    except StoreError as error:
        return Finding("database", False, str(error))
    except OSError as error:
        return Finding("database", False, f"{error.filename}: {error.strerror}")


def _directories(config: Config, unsafe: Mapping[str, str]) -> Iterator[Finding]:
    """`unsafe`: what is wrong with those that others could change, by key."""
    for what, path in (("jobs_dir", config.jobs_dir), ("run_dir", config.run_dir), ("log directory", config.log.file.parent)):
        if what in unsafe:
            yield Finding(what, False, unsafe[what])
            continue
        try:
            yield _writable(what, path, str(path) if path.exists() else f"{path} is not there yet; the engine makes it")
        except OSError as error:
            yield Finding(what, False, f"{path}: {error.strerror}")


def _writable(what: str, path: Path, message: str) -> Finding:
    """Whether this user can write into the directory, or make it, and there is room.  Raises OSError where nobody can look."""
    place, owner = nearest(path)
    if not place.is_dir():
        return Finding(what, False, f"{place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(what, False, f"{place} cannot be written by {name_of(os.geteuid())}; {making(path, owner)}")
    if short := shortage(os.statvfs(place)):
        return Finding(what, False, f"{place}: {short}")
    return Finding(what, True, message)


def shortage(space: os.statvfs_result) -> str | None:
    """What to tell of a file system that is full, or is so soon; None where there is room, or no limit."""
    free, size = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    if size and free < max(_LEAST_FREE, size * _LEAST_SHARE):
        return f"only {format_size(free)} of {format_size(size)} are free on its file system; make room, or move it to another"
    if space.f_files and space.f_favail < max(_LEAST_INODES, space.f_files * _LEAST_SHARE):
        return f"only {space.f_favail} of {space.f_files} inodes are free on its file system; remove files, or move it to another"
    return None
