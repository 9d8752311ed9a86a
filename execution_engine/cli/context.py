"""What all commands share: exit codes, how an error becomes a message, the configuration and the database."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from execution_engine.cli.output import harmless
from execution_engine.cli.streams import escape_what_has_no_code, open_closed_streams
from execution_engine.clock import SystemClock
from execution_engine.errors import ConfigError, DaemonError, ExecdError, InvalidJob, NoSuchJob
from execution_engine.users import become, closed

if TYPE_CHECKING:
    from execution_engine.client import Client
    from execution_engine.config import Config
    from execution_engine.store.job_store import JobStore


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    ALREADY_RUNNING = 4
    BAD_CONFIGURATION = 5
    JOB_FAILED = 10


class Failure(ExecdError):
    """A command cannot do what it was asked to; the message says why."""


class CannotRun(ExecdError):
    """The user that root became cannot read execd itself or its Python: no command can go on with anything."""


class Session:
    """One call of the command line.  The configuration is read when a command first needs it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.clock = SystemClock()

    @cached_property
    def config(self) -> Config:
        """The configuration of `-c`, or the first of the usual places that has one; root becomes the user that it names.

        Raises ConfigError.
        """
        from execution_engine.config import load

        return self._as_its_user(load)

    @cached_property
    def essentials(self) -> Config:
        """The configuration for what needs no more of it than database, directories and log.

        A mistake elsewhere in it must not take a running engine and its jobs away: it is told on stderr.  Raises ConfigError.
        """
        try:
            return self.config
        except ConfigError as error:
            usable = self.usable(error)
            complain(f"{message_of(error)}\nwarning: the configuration is bad; going on with its database and directories")
            return usable

    @property
    def file(self) -> Path:
        """The configuration file, which may be gone.  Raises ConfigError when none is named."""
        from execution_engine.config import file_named

        return file_named(self.path)

    @cached_property
    def run_dir(self) -> Path:
        """Where an engine is found, also with a configuration that names no usable database, or is gone: told on stderr.

        Raises ConfigError when no engine runs there.
        """
        try:
            return self.essentials.run_dir
        except ConfigError as error:
            found = self.engine_despite(error)
            complain(f"{message_of(error)}\nwarning: the configuration cannot be used; going on with the engine on {found}")
            return found

    def engine_despite(self, error: ConfigError) -> Path:
        """Where an engine runs whose configuration has this error.  Raises ConfigError when none runs there, or it is another
        user's."""
        from execution_engine.config import find_run_dir
        from execution_engine.master.pid_file import holder

        try:
            found = find_run_dir(self.path)
        except ConfigError as other:
            raise ConfigError(list(dict.fromkeys([*error.problems, *other.problems]))) from None
        if holder(found) is None:
            raise error from None
        return found

    def usable(self, error: ConfigError) -> Config:
        """What is good of a configuration that has this error.  Raises the error when that is too little."""
        from execution_engine.config import load_essentials

        try:
            return self._as_its_user(load_essentials)
        except ConfigError:
            raise error from None

    def _as_its_user(self, load: Callable[[Path | None], Config]) -> Config:
        """Whatever root does with an engine's files it does as the engine's user, who could otherwise lead it astray by them."""
        config = load(self.path)
        if not become(config.user):
            return config
        for needed in (sys.executable, os.__file__, click.__file__, __file__):
            if shut := closed(Path(needed)):
                raise CannotRun(
                    f"user: {config.user} cannot run execd: {shut} is closed to that user, and {needed} is needed; "
                    "install execd and its Python where that user can, such as /opt/execd"
                )
        try:
            return load(self.path)  # home directory and secrets are that user's
        except ConfigError as error:
            raise ConfigError([*error.problems, f"user: {config.user}, whom root became for this engine, finds it so"]) from None

    def client(self) -> Client:
        """A client of the configured database; connects when it is entered."""
        from execution_engine.client import Client

        return Client(self.essentials, self.clock)


pass_session = click.make_pass_decorator(Session)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class Commands(click.Group):
    """A group whose commands may raise execd's own errors: each becomes a message and an exit code, never a traceback."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:  # `--help` is printed here
            _end_as_by_sigpipe()

    def main(self, *arguments: Any, **more: Any) -> Any:
        open_closed_streams()
        escape_what_has_no_code()
        return super().main(*arguments, **more)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExecdError as error:
            message, code = message_of(error), exit_code_of(error)
        except BrokenPipeError:
            _end_as_by_sigpipe()
        except UnicodeEncodeError as error:  # a word of the command line: no database holds it
            message, code = f"{harmless(error.object)!r} is not UTF-8 text", ExitCode.USAGE
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            message, code = where + (error.strerror or str(error)), ExitCode.FAILED
        complain(message)
        return ctx.exit(code)


def _end_as_by_sigpipe() -> NoReturn:
    """Ends as every program does whose reader has gone (`| head`): quietly, by the signal that Python turned into an error."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # the first process of a container does not die of its own signals


def resolve_all(store: JobStore, texts: Iterable[str]) -> tuple[list[Any], list[str]]:
    """The ids that the texts mean, each once, and what is wrong with the texts that mean none."""
    ids, problems = [], []
    for text in texts:
        try:
            ids.append(store.resolve(text))
        except NoSuchJob as error:
            problems.append(str(error))
    return list(dict.fromkeys(ids)), problems


def complain(message: str) -> None:
    """Tells the person at the terminal what went wrong, on stderr."""
    for line in message.splitlines():
        click.echo(f"execd: {harmless(line)}", err=True)


def message_of(error: ExecdError) -> str:
    """The words of an error, a line for each problem."""
    problems = error.problems if isinstance(error, ConfigError | InvalidJob) else [str(error)]
    return "\n".join(problems)


def exit_code_of(error: ExecdError) -> ExitCode:
    """The exit code that an error stands for."""
    if isinstance(error, ConfigError | CannotRun):
        return ExitCode.BAD_CONFIGURATION
    if isinstance(error, DaemonError):
        from execution_engine import master

        if isinstance(error, master.NotRunning):
            return ExitCode.NOT_RUNNING
        if isinstance(error, master.AlreadyRunning):
            return ExitCode.ALREADY_RUNNING
    return ExitCode.FAILED
