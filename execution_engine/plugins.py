"""Administrators' Python files: whether they can be trusted, and how they are loaded, also anew at `reload`.

A plug-in registers what it brings (`rules.register`, `execution_systems.register`) in a `Registry`.  Loading is all or nothing:
within `all_or_nothing()` and `Registry.renewed()` everything is as before if it fails.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TypeVar

from execution_engine.descriptors import kind_of, plain_content
from execution_engine.errors import PluginError
from execution_engine.users import fault

_ODD = ("a device", "a named pipe", "a socket")
_PREFIX = "execd_plugins."
_LONGEST_LOAD = 10.0
"""Seconds that one file may take."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Source:
    """A plug-in file as it was read, or why it cannot be used."""

    file: Path
    text: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading: the files that were loaded, and what was wrong with the others, a line each."""

    files: tuple[Path, ...]
    problems: tuple[str, ...]


class Registry(dict[str, _T]):
    """What is known under which name; from the package itself and from plug-ins."""

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Forgets what plug-ins registered, so that they can be loaded anew.  All is as before if that fails."""
        before = dict(self)
        for name, value in before.items():
            if value.__module__.startswith(_PREFIX):
                del self[name]
        try:
            yield
        except BaseException:
            self.clear()
            self.update(before)
            raise


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Puts the modules of plug-ins back as they were if the loading within fails."""
    before = _plugin_modules()
    try:
        yield
    except BaseException:
        for name in _plugin_modules():
            del sys.modules[name]
        sys.modules.update(before)
        raise


def read_all(directories: Sequence[Path]) -> tuple[Source, ...]:
    """Reads each `*.py` file of the directories (not below them; none that begins with `_` or `.`), sorted by name.

    Goes on after a bad file, so that all are reported.  A directory that is not there holds no plug-ins.
    """
    found: list[Source] = []
    for directory in directories:
        try:
            files = _files(directory)
        except PluginError as error:
            found.append(Source(directory, problem=str(error)))
            continue
        for file in files:
            try:
                found.append(read(file))
            except PluginError as error:
                found.append(Source(file, problem=str(error)))
    return tuple(found)


def read(file: Path) -> Source:
    """Reads a plug-in file.  Raises PluginError when others could change it."""
    trusted(file)
    try:
        return Source(file, plain_content(file))
    except OSError as error:
        raise PluginError(f"{file}: cannot be read: {error.strerror}") from error


def load_all(sources: Iterable[Source], kind: str) -> Loaded:
    """Loads what was read, and goes on after a bad one.  `kind` is a part of the modules' names."""
    files: list[Path] = []
    problems: list[str] = []
    names: dict[str, Path] = {}
    for source in sources:
        file = source.file
        try:
            if source.problem:
                raise PluginError(source.problem)
            if file.stem in names:
                raise PluginError(f"{file}:1: {names[file.stem]} has the same name; rename one of them")
            names[file.stem] = file
            _try_out(source, kind)
            load(source, kind)
        except PluginError as error:
            problems.append(str(error))
        else:
            files.append(file)
    return Loaded(tuple(files), tuple(problems))


def load(source: Source, kind: str) -> ModuleType:
    """Runs a plug-in as the module `execd_plugins.KIND.STEM`, in place of one of that name.

    Writes no compiled file beside it.  Raises PluginError: `FILE:LINE: cause`; the module of that name stays the one it was.
    """
    file = source.file
    name = f"{_PREFIX}{kind}.{file.stem}"
    spec = spec_from_file_location(name, file)
    if spec is None:
        raise PluginError(f"{file}: is not a Python file")
    module = module_from_spec(spec)
    for package in ("execd_plugins", f"{_PREFIX}{kind}"):  # pickle imports a class' module from the top
        sys.modules.setdefault(package, ModuleType(package))
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(source.text, str(file), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise PluginError(f"{file}:{_line(error, file)}: {_cause(error)}") from error
    return module


def _try_out(source: Source, kind: str) -> None:
    """Loads it in a process that is thrown away: one that hangs, or ends its process, would take the caller's with it.

    Raises PluginError for these two alone.
    """
    pid = os.fork()
    if pid == 0:
        _load_and_exit(source, kind)
    watch = os.pidfd_open(pid)
    try:
        in_time = bool(select.select([watch], [], [], _LONGEST_LOAD)[0])
    finally:
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        os.close(watch)
        _, status = os.waitpid(pid, 0)
    if not in_time:
        raise PluginError(f"{source.file}: is not loaded within {_LONGEST_LOAD:g} s: it hangs")
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        raise PluginError(f"{source.file}: ends the process that loads it, {how}")


def _load_and_exit(source: Source, kind: str) -> NoReturn:
    code = 0
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        load(source, kind)
    except PluginError:
        code = 0  # the caller meets it too, and tells
    finally:
        os._exit(code)


def trusted(path: Path) -> None:
    """Raises PluginError if anybody but root and this process' user could change a file, or put another in its place.

    Also if it is neither a file nor a directory: a pipe would be waited for, a device has no end.
    """
    try:
        what = kind_of(path) if path.exists() else "not there"
        wrong = f"it is {what}; give a file" if what in _ODD else fault(path)
        path.stat()
    except OSError as error:
        raise PluginError(f"{path}: cannot be read: {error.strerror}") from error
    if wrong:
        raise PluginError(f"{path}: not used, because {wrong}")


def _files(directory: Path) -> list[Path]:
    """The plug-in files of a directory."""
    if not os.path.lexists(directory):
        return []
    trusted(directory)
    try:
        return sorted(file for file in directory.iterdir() if file.suffix == ".py" and not file.name.startswith(("_", ".")))
    except OSError as error:
        raise PluginError(f"{directory}: cannot be read: {error.strerror}") from error


def _plugin_modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.startswith(_PREFIX)}


def _line(error: BaseException, file: Path) -> int:
    """The line in this file where it went wrong: of the syntax error, else the innermost of the traceback."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return (lines[-1] if lines else None) or 1


def _cause(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return "".join(traceback.format_exception_only(error)).strip()
