"""A job's command and environment as lines of a POSIX shell, which take every text literally."""

from __future__ import annotations

import os
import re
from pathlib import Path

from execution_engine.errors import BuildError
from execution_engine.jobs.job import Command, Job

COMMAND_FILE = ".execd/command"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OURS = "EXECD_"
_OF_THE_SHELL = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "LINENO", "OPTIND", "PPID", "SHELLOPTS", "UID"})
"""Variables that one shell or another does not let be set; which shell /bin/sh is on the node, nobody knows here."""
_MEGABYTE = 1 << 20
_LONGEST_WORD = 32 * os.sysconf("SC_PAGE_SIZE")
"""MAX_ARG_STRLEN of Linux: bytes of one argument or variable, its end included."""
_ALL_WORDS = os.sysconf("SC_ARG_MAX") - (1 << 14)
"""Bytes of all of them, without those that execd and the execution system add."""
_POINTER = 8
_TO_ENV_A_VARIABLE = """"$@" /bin/sh -c 'exec "$0" "$@"'"""
"""Before a program whose name `env` would take for an assignment."""


def quote(text: str) -> str:
    """`text` as one word of a POSIX shell, whatever it holds (but NUL, which no argument can).  Raises BuildError for NUL."""
    if "\0" in text:
        raise BuildError(f"{text[:40]!r} holds a NUL character, which neither an argument nor a variable can; remove it")
    return "'" + text.replace("'", "'\\''") + "'"


def command_line(command: Command, interpreter: tuple[str, ...] = ("/bin/sh",)) -> str:
    """The lines that turn the shell into the command: no further process, and never a builtin of the shell.

    The shell's own arguments are words to put before the command.  `interpreter` runs a string.  Raises BuildError for a command
    that names no program.
    """
    if isinstance(command, str):
        if not command.strip():
            raise BuildError("command: an empty script; expected shell commands, or a list of a program and its arguments")
        if interpreter[0].startswith("-"):
            raise BuildError(f"shell: {interpreter[0]!r} is no program; expected for example /bin/bash")
        return _is_there(interpreter[0]) + f'exec "$@" {" ".join(map(quote, interpreter))} {COMMAND_FILE}'
    if not command or not command[0]:
        raise BuildError("command: no program; expected a list of a program, which is not empty, and its arguments")
    if command[0].startswith("-"):
        raise BuildError(
            f"command: the program {command[0]!r} would be taken for an option; give its path, as in './{command[0]}'"
        )
    before = _TO_ENV_A_VARIABLE if "=" in command[0] else '"$@"'
    return f"exec {before} " + " ".join(map(quote, command))


def _is_there(interpreter: str) -> str:
    """A line that says which interpreter is missing; a shell would blame the script."""
    if "/" not in interpreter or interpreter == "/bin/sh":
        return ""
    program, said = quote(interpreter), quote(f"execd: {interpreter}, which is to run the command, cannot be executed here")
    return f"[ -x {program} ] || {{ echo {said} >&2; [ -e {program} ] && exit 126; exit 127; }}\n"


def interpreter_of(script: str) -> tuple[str, ...]:
    """The program of the script's `#!` line, and its argument, as the kernel reads it; nothing where there is no such line.

    Raises BuildError for a line that cannot work.
    """
    if not script.startswith("#!"):
        return ()
    line = script.partition("\n")[0]
    if line.endswith("\r"):
        raise BuildError("command: its #! line ends with a carriage return, as on Windows; end the lines with a line feed alone")
    words = tuple(line[2:].strip(" \t").split(None, 1))
    if words and not words[0].startswith("/"):
        raise BuildError(f"command: {line[:80]!r} names no absolute path; expected for example #!/usr/bin/env python3")
    return words


def check_sizes(job: Job) -> None:
    """Raises BuildError for an argument or a variable that is longer than a program can be given, or all of them together."""
    words = job.command if isinstance(job.command, tuple) else ()
    named = [("command", f"argument {number}", word) for number, word in enumerate(words)]
    named += [("env", name, f"{name}={value}") for name, value in job.env.items()]
    together = 0
    for field, what, text in named:
        size = len(text.encode("utf-8", "surrogateescape")) + 1
        together += size + _POINTER
        if size > _LONGEST_WORD:
            raise BuildError(
                f"{field}: {what} has {size - 1:,} bytes; a program can be given {_LONGEST_WORD - 1:,} in one; "
                "put it into a file, by `inputs`"
            )
    if together > _ALL_WORDS:
        raise BuildError(
            f"command and env: {together:,} bytes together; a program can be given {_ALL_WORDS:,}; "
            "put some into a file, by `inputs`"
        )


def environment_lines(job: Job, directory: Path) -> str:
    """The lines that export the job's environment.  Raises BuildError for a variable that cannot or must not be set."""
    for name in job.env:
        check_variable(name)
    variables = {**job.env, **_own_variables(job, directory)}
    return "\n".join(f"export {name}={quote(value)}" for name, value in variables.items())


def _own_variables(job: Job, directory: Path) -> dict[str, str]:
    """What execd tells the command.  EXECD_MEMORY_MB is in units of 1,048,576 bytes; 0 means that there is no limit."""
    memory = job.resources.memory
    return {
        "EXECD_JOB_ID": job.text_id,
        "EXECD_JOB_DIR": str(directory),
        "EXECD_ATTEMPT": str(job.attempt),
        "EXECD_CORES": str(job.resources.cores),
        "EXECD_MEMORY_MB": str(max(1, memory // _MEGABYTE) if memory else 0),
    }


def check_variable(name: str) -> None:
    """Raises BuildError for a variable that no shell can set, or that is not the job's to set."""
    if not _VARIABLE.fullmatch(name):
        raise BuildError(f"env: {name!r} is not the name of a variable; expected letters, digits and _, no digit first")
    if name.startswith(_OURS):
        raise BuildError(f"env: {name} is set by execd itself (as all {_OURS}…); choose another name")
    if name in _OF_THE_SHELL:
        raise BuildError(f"env: {name} belongs to the shell and cannot be set; choose another name")
