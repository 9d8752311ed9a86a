"""Runs in FireWorks' own environment: fireworks_race.py DIRECTORY CPUS JOBS prints the seconds of a race."""
# Its imports are in that environment only.
# mypy: ignore-errors

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import mongomock
import pymongo
from mongomock.gridfs import enable_gridfs_integration

enable_gridfs_integration()
setattr(pymongo, "MongoClient", mongomock.MongoClient)  # noqa: B010 - before FireWorks looks for it

from fireworks import Firework, LaunchPad, ScriptTask, Workflow  # noqa: E402
from fireworks.core.rocket_launcher import rapidfire  # noqa: E402


def main() -> None:
    directory, jobs = Path(sys.argv[1]), int(sys.argv[3])
    os.chdir(directory)
    print(_race(LaunchPad(strm_lvl="ERROR"), directory, jobs))


def _race(launchpad: LaunchPad, directory: Path, jobs: int) -> float:
    launchpad.reset("", require_password=False)
    begin = time.perf_counter()
    launchpad.bulk_add_wfs([Workflow([Firework(ScriptTask.from_str("true"))]) for _ in range(jobs)])
    rapidfire(launchpad, m_dir=str(directory), strm_lvl="ERROR")
    seconds = time.perf_counter() - begin
    if (ended := launchpad.fireworks.count_documents({"state": "COMPLETED"})) != jobs:
        raise RuntimeError(f"{ended} of {jobs} jobs ended under FireWorks")
    return seconds


if __name__ == "__main__":
    main()
