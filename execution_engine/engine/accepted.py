"""What an engine works by: a configuration and the plug-ins that it names, as they were when all of it was found good.

Every process of the engine that is started later, a monitor or a fork server in place of one that died, works by the same: what
has been changed on the disk since is for `reload` to accept or to refuse.  The master keeps it, in a file without a name.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import Self

from execution_engine import plugins
from execution_engine.config import Config
from execution_engine.engine import machine
from execution_engine.engine.file_system import Place
from execution_engine.errors import DaemonError
from execution_engine.plugins import Source


@dataclass(frozen=True, slots=True)
class Accepted:
    """A configuration, the place of its jobs, which directory is at jobs_dir, and the sources of its systems and rules."""

    config: Config
    place: str
    systems: tuple[Source, ...]
    rules: tuple[Source, ...]
    jobs_dir: Place | None

    @classmethod
    def read(cls, config: Config) -> Self:
        """With the plug-ins as they are on the disk now.  Nothing is loaded; what cannot be read is a problem of its loading."""
        place = machine.place_of(config.run_dir, config.engine.identity)
        systems, rules = plugins.read_all(config.systems_dirs), plugins.read_all(config.rules_dirs)
        return cls(config, place, systems, rules, Place.of(config.jobs_dir))

    def to_file(self) -> int:
        """Puts it into a file without a name, in memory; returns the descriptor, which the caller closes."""
        fd = os.memfd_create("execd-accepted")
        with open(fd, "wb", closefd=False) as file:
            # Not a secret way in: the file has no name, and only our own processes have its descriptor.
            pickle.dump(self, file)
        return fd

    @classmethod
    def from_file(cls, fd: int) -> Self:
        """What `to_file` put there.  Raises DaemonError when this process is of another execd than the one that wrote it."""
        try:
            accepted = pickle.loads(os.pread(fd, os.fstat(fd).st_size, 0))
            assert isinstance(accepted, cls)
        except Exception as error:  # whatever the classes of another version make of it
            raise DaemonError(
                f"execd was replaced by another version while it ran ({type(error).__name__}: {error}); execd restart"
            ) from error
        return accepted
