"""The directories that an engine needs: made and looked at before anything of it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

from execution_engine.config import Config, safety
from execution_engine.errors import ConfigError
from execution_engine.users import closed_to_others, making, name_of, nearest


def prepare(config: Config) -> None:
    """Makes the directories.  Raises ConfigError when one of them cannot be used, or belongs to another user, or others could
    change it; what they hold was not touched then."""
    if wrong := safety.wrong_user(config):
        raise ConfigError([f"{config.place('user')}: user: {wrong}"])
    for look in (safety.faults, _unusable, safety.faults):  # again: somebody may have been faster
        if problems := [f"{config.place(key)}: {key}: {what}" for key, what in look(config)]:
            raise ConfigError(problems)


def _unusable(config: Config) -> Iterator[tuple[str, str]]:
    for key, directory, mode in (
        ("run_dir", config.run_dir, 0o700),
        ("log", config.log.file.parent, 0o755),
        ("jobs_dir", config.jobs_dir, 0o711),
    ):
        if key == "log" and nearest(config.log.file)[0] == config.log.file and not config.log.file.is_file():
            continue  # a pipe or a terminal, such as /dev/stdout: nothing is made beside it
        owner = nearest(directory)[1]
        try:
            with closed_to_others():
                directory.mkdir(mode=mode, parents=True, exist_ok=True)
            if key == "run_dir":
                directory.chmod(0o700)
        except OSError as error:
            advice = f"; {making(directory, owner)}" if isinstance(error, PermissionError) else ""
            yield key, f"{directory} cannot be made: {error.strerror}{advice}"
            continue
        if not os.access(directory, os.W_OK | os.X_OK):
            yield key, f"{directory} cannot be written by user {name_of(os.geteuid())}; {making(directory, owner)}"
