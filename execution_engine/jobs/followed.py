"""A job that a system has, in brief."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from execution_engine.jobs.status import Status

_LONGEST_PATH, _LONGEST_NAME = 4095, 255


def is_directory(path: Any) -> bool:
    """Whether a document's value can be the path of a job's directory: absolute, and one that a system takes."""
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        return False
    names = path.encode("utf-8", "surrogateescape").split(b"/")
    return sum(map(len, names)) + len(names) <= _LONGEST_PATH and max(map(len, names)) <= _LONGEST_NAME


class Followed(NamedTuple):
    """What a turn must know of each of the jobs that a system has, of which there may be tens of thousands.

    What the document holds in one of these fields that is no such thing is taken as missing.  The job is read as a whole where it
    is to change, or may be gone.
    """

    id: Any
    status: Status
    job_no: str
    """the native id; empty where there is none"""
    name: str
    """the name in the system, unique for job and attempt; empty where there is none"""
    dir: str
    """the job's directory; empty where there is none"""
    attempt: int
    """number of this attempt; 0 where the document has none"""
    lease_until: datetime | None
    """when the lease ends that somebody has on it"""

    @property
    def text_id(self) -> str:
        """The id for people, by which systems answer."""
        return str(self.id)
