"""The building of a job: from its document to a directory that holds all that an execution system needs."""

from __future__ import annotations

import errno
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from execution_engine.building import earlier_attempts
from execution_engine.building.checking import check
from execution_engine.building.command_line import COMMAND_FILE
from execution_engine.building.directories import open_directory, open_shard, opened
from execution_engine.building.inputs import place_inputs
from execution_engine.building.job_script import job_script
from execution_engine.building.sharing import share
from execution_engine.building.surroundings import PRIVATE, Surroundings
from execution_engine.clock import Clock, SystemClock
from execution_engine.config import Config
from execution_engine.errors import BuildError
from execution_engine.jobs.exit_record import JOB_SCRIPT, prevent_start, spare_record
from execution_engine.jobs.job import Job

BUILD_LOG = ".execd/build.log"
_SHARDS = 256
"""Directories between a project and its jobs: 1,000,000 jobs are some 4,000 in each."""


def build(
    job: Job,
    config: Config,
    clock: Clock | None = None,
    beat: Callable[[], object] = lambda: None,
    surroundings: Surroundings = Surroundings(),  # noqa: B008 - it is frozen
) -> Path:
    """Makes the job's directory with its inputs and its job script, and returns it.  `beat` is called between the steps of
    what may take long; what it raises ends the build.

    Harmless when repeated: what an interrupted build left is made anew; but a directory in which this attempt or a later one
    was started is left as it is.  What earlier attempts left is kept in `.execd`.  Raises BuildError when the fault is the job's
    own (what, and how to mend it), OSError when the machine cannot do it now.
    """
    try:
        directory = directory_of(job, config.jobs_dir)
        if problems := check(job):
            raise BuildError("; ".join(problems))
        script = job_script(job, directory, surroundings).encode("utf-8", "surrogateescape")
        steps = [
            f"{(clock or SystemClock()).now().isoformat()} job {directory.name}, attempt {job.attempt}, by process {os.getpid()}"
        ]
        began = time.perf_counter()
        with opened(open_shard(directory.parent, config.jobs_dir)) as shard:
            steps.append(_make(directory, shard, job.attempt))
            place = open_directory(shard, directory.name)
        with opened(place):
            _fill_and_log(place, job, config, script, steps, beat, began)
            if (umask := surroundings.umask_of(job)) != PRIVATE:
                share(place, directory, job.inputs, umask)
    except UnicodeEncodeError as error:
        wrong = f"U+{ord(error.object[error.start]):04X}"
        raise BuildError(f"{error.object[:40]!r}… holds {wrong}, which is not a character; send valid Unicode") from error
    return directory


def directory_of(job: Job, jobs_dir: Path) -> Path:
    """Where the job's directory is, or will be: `jobs_dir/<project>/<shard>/<id>`."""
    name = job.safe_id
    return jobs_dir / f"{job.directory_name}/{shard_of(name)}/{name}"


def shard_of(name: str) -> str:
    """The directory between a project's and the job's, by the name of the job's."""
    return f"{zlib.crc32(name.encode('utf-8', 'surrogateescape')) % _SHARDS:02x}"


def _fill_and_log(
    place: int, job: Job, config: Config, script: bytes, steps: list[str], beat: Callable[[], object], began: float
) -> None:
    try:
        _fill(place, job, config, script, steps, beat)
        steps.append(f"built in {(time.perf_counter() - began) * 1000:.2f} ms")
    except (BuildError, OSError) as error:
        steps.append(f"failed: {error}")
        raise
    finally:
        _write(place, BUILD_LOG, "".join(f"{step}\n" for step in steps).encode("utf-8", "backslashreplace"))


def _fill(place: int, job: Job, config: Config, script: bytes, steps: list[str], beat: Callable[[], object]) -> None:
    """Half of the time after which the monitor takes the actor for hung is for inputs that must be fetched."""
    steps.extend(place_inputs(job.inputs, place, config.inputs, config.engine.actor_deadline / 2, beat))
    if isinstance(job.command, str):
        text = job.command.encode("utf-8", "surrogateescape")
        _write(place, COMMAND_FILE, text + b"\n", mode=0o700 if text.startswith(b"#!") else 0o600)
        steps.append(f"command: a shell script of {len(text)} bytes")
    else:
        steps.append(f"command: {job.command[0]!r} with {len(job.command) - 1} arguments")
    _write(place, JOB_SCRIPT, script, mode=0o700)


def _make(directory: Path, shard: int, attempt: int) -> str:
    """An empty directory with `.execd`, and a line about it."""
    line, name = f"directory {str(directory)!r}: made", directory.name
    _refuse_if_ended(directory, attempt)
    if attempt > 1:
        _refuse_if_started(directory, attempt)
        return line + earlier_attempts.renew(shard, name, attempt)
    try:
        os.mkdir(name, 0o700, dir_fd=shard)
    except FileExistsError:
        _refuse_if_started(directory, attempt)
        shutil.rmtree(name, dir_fd=shard)
        os.mkdir(name, 0o700, dir_fd=shard)
        line += " anew, over an earlier build"
    os.mkdir(f"{name}/.execd", 0o700, dir_fd=shard)
    return line


def _refuse_if_ended(directory: Path, attempt: int) -> None:
    """As `_refuse_if_started`, of a job that did away with its directory: its record would be taken for this one's."""
    if os.path.lexists(record := spare_record(directory, attempt)):
        raise BuildError(
            f"a job ended in {str(directory)!r} already, and it is not run twice; move its record {record!r} away, or insert the "
            "job with another _id"
        )


def _refuse_if_started(directory: Path, attempt: int) -> None:
    """Raises BuildError when the command of this attempt was started in the directory; else it is not, by whatever copy of what
    was built here before.

    A start marker for a job that has not been submitted means that another job had this id (of a database that is gone, say),
    or that the database forgot: to run the command could be to run it twice, and to take the results there as this job's would
    be a lie.
    """
    if not prevent_start(directory, attempt) or earlier_attempts.are_kept(directory, attempt + 1):
        raise BuildError(
            f"a job was started in {str(directory)!r} already, and it is not run twice; look at what is there, then move "
            "that directory away, or insert the job with another _id"
        )


def _write(place: int, name: str, content: bytes, mode: int = 0o600) -> None:
    """Makes a new file of this content in the directory."""
    with opened(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=place)) as file:
        if os.write(file, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
