"""From a file to a configuration.  All that is wrong with it is found and told at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from execution_engine.config import document, safety, wording
from execution_engine.config.document import Document
from execution_engine.config.models import Config
from execution_engine.config.places import Keys, Problems, one_line
from execution_engine.descriptors import plain_content
from execution_engine.errors import ConfigError, PluginError
from execution_engine.plugins import trusted

VARIABLE = "EXECD_CONFIG"
USUAL_PLACES = (Path("conf/execd.yaml"), Path("execd.yaml"), Path("/etc/execd/execd.yaml"))

ESSENTIALS = ("user", "database", "jobs_dir", "run_dir", "log")
"""What is needed to find a running engine and its jobs."""
_NOT_READ: dict[str, Any] = {
    "execution_systems": {"not-read": {"class": "not read"}},
    "routes": [{"name": "not read", "execution_system": "not-read"}],
}
_UNREAD = "mongodb://unread"
"""Stands for a URL whose file could not be read, so that it is not reported as missing as well."""


def load(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration of `path`, else of the file that `$EXECD_CONFIG` names, else of the first of the usual places.

    Raises ConfigError, whose `problems` are all that is wrong: `FILE:LINE: KEY: what is wrong, what is expected`.
    """
    return _loaded(document.read(_trusted(path, environment), environment))


def load_essentials(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration as far as it is needed to find a running engine and its jobs, whatever is wrong with the rest.

    Of ESSENTIALS all is as in the file; the rest stands for what was not read, and is not to be used.  Raises ConfigError when
    one of ESSENTIALS is bad, or the file is not readable at all.
    """
    read = document.read(_trusted(path, environment), environment, ESSENTIALS)
    read.data.update(_NOT_READ)
    return _loaded(read)


def find_run_dir(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The run directory that the file names, whatever else is wrong with it.

    Of a file that is gone or cannot be read: the one beside it, where `execd init` puts it.  Raises ConfigError when no file is
    named, or others could change it.
    """
    found = _named_run_dir(path, environment)
    if wrong := safety.of_directory(found):
        raise ConfigError([f"{found}: not used, because {wrong}"])
    return found


def _named_run_dir(path: Path | None, environment: Mapping[str, str]) -> Path:
    named = _named(path, environment)
    if named is not None and not named.exists():
        return named.absolute().parent / "run"
    file = _trusted(path, environment)
    try:
        given = document.read(file, environment, ("run_dir",)).data.get("run_dir")
    except ConfigError:
        given = None
    return file.parent / Path(given if isinstance(given, str) else "run").expanduser()


def load_anew(path: Path, old: Config) -> Config:
    """The configuration in place of `old` in a running engine.  Raises ConfigError, also for a change that needs a restart."""
    new = load(path)
    changed = {"user": old.user != new.user, "database": old.database != new.database}
    problems = [f"{new.file}: {key}: a change needs `execd restart`" for key, is_new in changed.items() if is_new]
    if old.run_dir != new.run_dir:
        problems.append(f"{new.file}: run_dir: a change needs a stop first: set {old.run_dir} back, `execd stop`, then change it")
    problems += [f"{new.place(key)}: {key}: {wrong}" for key, wrong in safety.faults(new)]
    if problems:
        raise ConfigError(problems)
    return new


def _trusted(path: Path | None, environment: Mapping[str, str]) -> Path:
    file = locate(path, environment)
    try:
        trusted(file)
    except PluginError as error:
        raise ConfigError([str(error)]) from None
    return file


def _loaded(read: Document) -> Config:
    _read_secrets(read)
    _check_names(read.data, read.problems)
    config = _validated(read)
    if config is not None:
        _check_apart(config, read.problems)
    if config is None or read.problems:
        raise ConfigError(read.problems.lines())
    config._places = read.places
    config._warnings = tuple(_warnings(config))
    return config


def _check_apart(config: Config, problems: Problems) -> None:
    """Among the jobs, the run directory would be a project's, and a project's jobs could be where its sockets are.

    By their names alone: to look at directories may take for ever.
    """
    if config.run_dir == config.jobs_dir:
        problems.add(("run_dir",), "is the same directory as jobs_dir; each needs one of its own")
    elif config.run_dir.is_relative_to(config.jobs_dir):
        problems.add(("run_dir",), "is below jobs_dir, where only jobs may be; put it beside that")


def locate(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The absolute path of the configuration file.  Raises ConfigError when there is none, or a directory in its place."""
    named = _named(path, environment)
    candidates = USUAL_PLACES if named is None else (named,)
    for candidate in candidates:
        try:
            if candidate.is_dir():
                raise ConfigError([f"{candidate.absolute()}: is a directory; give the file, such as {candidate / 'execd.yaml'}"])
            if candidate.exists():
                return candidate.absolute()
        except OSError as error:
            raise ConfigError([f"{candidate.absolute()}: cannot be read: {error.strerror}"]) from None
    if named is not None:
        raise ConfigError([f"{named.absolute()}: there is no such file" + ("" if path else f" (named by ${VARIABLE})")])
    looked = ", ".join(map(str, USUAL_PLACES))
    raise ConfigError(
        [f"no configuration: neither -c nor ${VARIABLE} names one, and there is none of {looked}; `execd init` makes one"]
    )


def file_named(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """As `locate`, also of a named file that is gone."""
    named = _named(path, environment)
    return locate(path, environment) if named is None else named.absolute()


def _named(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    return path or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)


def default_text() -> str:
    """The commented default configuration, ready to start wherever it is put: its paths are relative to its directory."""
    for file in _default_files():
        if file.is_file():
            return file.read_text("utf-8")
    raise ConfigError(["the default configuration (share/execd/execd.yaml) is not there: execd is not installed completely"])


def _default_files() -> Iterator[Path]:
    """Where it may be: in a checkout, beside the packages (`pip install --target`), or where a wheel puts data."""
    root = Path(__file__).resolve().parents[2]
    yield root / "conf" / "execd.yaml"
    yield root / "share" / "execd" / "execd.yaml"
    for file in metadata.files("execd") or ():
        if file.parts[-3:] == ("share", "execd", "execd.yaml"):
            yield Path(str(file.locate()))


def _validated(read: Document) -> Config | None:
    data, file = read.data, read.places.file
    if "file" in data:
        read.problems.add(("file",), "is not a known key")
    try:
        return Config.model_validate(data | {"file": file}, context={"directory": file.parent})
    except ValidationError as error:
        unknown = {entry["loc"] for entry in error.errors() if entry["type"] == "extra_forbidden"}
        for keys, what in wording.problems(error, Config, read.places):
            read.problems.add(keys, what, unknown=keys in unknown)
        return None


def _read_secrets(read: Document) -> None:
    """Puts the content of each `url_file` in the place of `url`."""
    targets = _section(_section(read.data, "notification"), "targets")
    _read_secret(read, ("database",), _section(read.data, "database"))
    for name in targets:
        _read_secret(read, ("notification", "targets", name), _section(targets, name))


def _read_secret(read: Document, keys: Keys, section: dict[str, Any]) -> None:
    given = section.get("url_file")
    if not isinstance(given, str):
        return
    at = (*keys, "url_file")
    if "url" in section:
        read.problems.add(at, "expected either url or url_file, found both")
        return
    section["url"] = _UNREAD
    try:
        file = read.places.file.parent / Path(given).expanduser()
    except RuntimeError:  # the model says so
        return
    try:
        trusted(file)
        section["url"] = plain_content(file).decode("utf-8").rstrip("\r\n")
    except PluginError as error:
        read.problems.add(at, str(error))
    except OSError as error:
        read.problems.add(at, f"{file} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        read.problems.add(at, f"{file} is not UTF-8 text")


def _check_names(data: dict[str, Any], problems: Problems) -> None:
    """Checks what one part of the file says about another.  Other parts may be of any wrong type."""
    systems, notification = _section(data, "execution_systems"), _section(data, "notification")
    seen: set[str] = set()
    for index, route in enumerate(_entries(data, "routes")):
        if not isinstance(route, dict):
            continue
        name, system = route.get("name"), route.get("execution_system")
        if isinstance(name, str) and name in seen:
            problems.add(("routes", index, "name"), f"two routes are called {name}; each needs a name of its own")
        seen.add(str(name))
        if isinstance(system, str) and system not in systems:
            what = f"there is no execution system {system}{wording.suggestion(system, systems)}"
            problems.add(("routes", index, "execution_system"), what)
    targets = _section(notification, "targets")
    for index, target in enumerate(_entries(notification, "default")):
        if isinstance(target, str) and target not in targets:
            what = f"there is no target {target} in notification.targets{wording.suggestion(target, targets)}"
            problems.add(("notification", "default", index), what)


def _warnings(config: Config) -> list[str]:
    """What does no harm but is hardly meant."""
    found: list[str] = []
    open_routes = [index for index, route in enumerate(config.routes) if not route.rules]
    if open_routes and open_routes[0] + 1 < len(config.routes):
        taker, idle = config.routes[open_routes[0]], [route.name for route in config.routes[open_routes[0] + 1 :]]
        place = config.place("routes", open_routes[0] + 1)
        found.append(f"{place}: routes: no job gets to {', '.join(idle)}: {taker.name} has no rules and takes every job before")
    for key, directories in (("rules_dirs", config.rules_dirs), ("systems_dirs", config.systems_dirs)):
        for index, directory in enumerate(directories):
            if not os.path.lexists(directory):
                found.append(f"{config.place(key, index)}: {key}: {directory} is not there; nothing is loaded from it")
    return [one_line(warning) for warning in found]


def _section(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _entries(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []
