"""What `execd check` looks at once the configuration is good: the database, the execution systems, the directories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from execution_engine.cli import probe
from execution_engine.cli.deadlines import ask_all
from execution_engine.clock import Clock
from execution_engine.config import Config, safety
from execution_engine.descriptors import kind_of
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


def examine(site: Site, clock: Clock, seconds: float) -> Iterator[Finding]:
    """Looks at everything, whatever the first things turn out to be, within so many seconds.

    Leaves nothing behind: the engine's user, not this one, should make what is missing.
    """
    yield from _configuration(site)
    systems = {f"execution system {name}": partial(_system, site, name) for name in site.systems}
    yield from _answered(systems | _essentials(site.config, clock), seconds)


def of_essentials(config: Config, clock: Clock, seconds: float) -> Iterator[Finding]:
    """Looks at user, database and directories: all that can be seen when the rest of the configuration is bad."""
    yield from _answered(_essentials(config, clock), seconds)


def _answered(questions: Mapping[str, Callable[[], Iterable[Finding]]], seconds: float) -> Iterator[Finding]:
    for what, answer in zip(questions, ask_all([*questions.values()], seconds), strict=True):
        yield from [Finding(what, False, f"no answer within {seconds:g} s: it hangs")] if answer is None else answer


def _essentials(config: Config, clock: Clock) -> dict[str, Callable[[], Iterable[Finding]]]:
    directories = {"jobs_dir": config.jobs_dir, "run_dir": config.run_dir}
    return {
        "user": partial(_user, config),
        "database": partial(_database, config, clock),
        **{what: partial(_directory, config, what, path) for what, path in directories.items()},
        "log directory": partial(_log, config),
    }


def _system(site: Site, name: str) -> Iterator[Finding]:
    health = probe.health(site.systems[name], site.config.file)
    yield Finding(f"execution system {name}", health.ok, health.message or ("answers" if health.ok else "does not answer"))


def _user(config: Config) -> Iterator[Finding]:
    if safety.runs_as_root(config):
        yield Finding("warning", True, safety.AS_ROOT)
    if wrong := safety.wrong_user(config):
        yield Finding("user", False, wrong)


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


def _database(config: Config, clock: Clock) -> Iterator[Finding]:
    for _, wrong in safety.faults(config, ("database",)):
        yield Finding("database", False, wrong)
        return
    try:
        if (embedded := config.database.file) is not None:
            directory = _writable("database", embedded.parent, f"{embedded} is not there yet; the engine makes it")
            if not directory.ok or not embedded.exists():
                yield directory
                return
        with open_store(config.database, clock) as store:
            server = store.ping()
            store.inspection.try_out()
            yield Finding("database", True, server)
    except StoreError as error:
        yield Finding("database", False, str(error))
    except OSError as error:
        yield Finding("database", False, f"{error.filename}: {error.strerror}")


def _log(config: Config) -> Iterator[Finding]:
    """Beside the directory, what is in the log's place: a pipe or a terminal, such as /dev/stdout, is written to as it is."""
    file = config.log.file
    try:
        there = nearest(file)[0] == file
        what = kind_of(file) if there else "a file"
    except OSError as error:
        yield Finding("log directory", False, f"{file}: {error.strerror}")
        return
    if what == "a file":
        yield from _directory(config, "log directory", file.parent)
    if what in ("a directory", "a socket") or (what == "a device" and not _takes_words(file)):
        yield Finding("log", False, f"{file} is {what}; give a file")
    elif there and not os.access(file, os.W_OK):
        yield Finding("log", False, f"{file} cannot be written by {name_of(os.geteuid())}")
    elif what != "a file":
        yield Finding("log", True, f"{file} is {what}")


def _takes_words(device: Path) -> bool:
    """Whether it is a terminal or /dev/null: others are full, or somebody's disk."""
    if os.path.realpath(device) == os.devnull:
        return True
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _directory(config: Config, what: str, path: Path) -> Iterator[Finding]:
    for _, wrong in safety.faults(config, (what,)):
        yield Finding(what, False, wrong)
        return
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
    try:
        Path(tempfile.mkdtemp(prefix=".execd-check-", dir=place)).rmdir()  # /proc and a server of files say yes, and refuse then
    except OSError as error:
        return Finding(what, False, f"{place} cannot be written by {name_of(os.geteuid())}: {error.strerror}")
    return Finding(what, True, message)


def shortage(space: os.statvfs_result) -> str | None:
    """What to tell of a file system that is full, or is so soon; None where there is room, or no limit."""
    free, size = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    if size and free < max(_LEAST_FREE, size * _LEAST_SHARE):
        return f"only {format_size(free)} of {format_size(size)} are free on its file system; make room, or move it to another"
    if space.f_files and space.f_favail < max(_LEAST_INODES, space.f_files * _LEAST_SHARE):
        return f"only {space.f_favail} of {space.f_files} inodes are free on its file system; remove files, or move it to another"
    return None
