"""Whether somebody else could change what the engine works with: one rule for `start`, `check` and `doctor`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Iterator
from pathlib import Path

from execution_engine.config.models import Config
from execution_engine.descriptors import kind_of
from execution_engine.users import fault, name_of

AS_ROOT = (
    "the engine runs as root, and so does every job: let `user:` in the configuration name the user that it is to become, "
    "or start it as that user"
)


PLACES = ("database", "jobs_dir", "run_dir")
"""The keys of what is judged."""


def faults(config: Config, places: Collection[str] = PLACES) -> Iterator[tuple[str, str]]:
    """The keys of files and directories that another user has or could change, each with what is wrong and what to do.

    They are judged for this process' user.
    """
    for key, path, look in (
        ("database", config.database.file, of_database),
        ("jobs_dir", config.jobs_dir, of_directory),
        ("run_dir", config.run_dir, of_directory),
    ):
        if path is None or key not in places:
            continue
        try:
            wrong = look(path)
        except OSError as error:
            wrong = f"it cannot be looked at: {error.strerror}"
        if wrong:
            yield key, f"{path}: not used, because {wrong}"


def of_database(path: Path) -> str | None:
    """What is wrong with an embedded database.  SQLite takes what lies beside its file for a part of it, so nobody else may put
    anything there; in a directory such as `/tmp` everybody may.  Raises OSError."""
    return _is_no("file", path) or fault(Path(os.path.realpath(path)).parent, it=path) or fault(path, own=True)


def of_directory(path: Path) -> str | None:
    """What is wrong with a directory that is the engine's own.  Raises OSError."""
    return _is_no("directory", path) or fault(path, own=True)


def _is_no(wanted: str, path: Path) -> str | None:
    """What is there instead of what is wanted."""
    if not path.exists() or (what := kind_of(path)) == f"a {wanted}":
        return None
    return f"it is {what}; give a {wanted}"


def wrong_user(config: Config) -> str | None:
    """What is to be said when the configuration names another user than this process'."""
    if config.user is None or pwd.getpwnam(config.user).pw_uid == os.geteuid():
        return None
    users = " or as ".join(dict.fromkeys(("root", config.user)))
    return f"the engine is to run as {config.user}, whom {name_of(os.geteuid())} cannot become; start it as {users}"


def runs_as_root(config: Config) -> bool:
    """Whether jobs would be root's without anybody having said so."""
    return config.user is None and os.geteuid() == 0
