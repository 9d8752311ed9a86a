"""Runs in HyperQueue's own environment: hyperqueue_race.py DIRECTORY CPUS JOBS prints the seconds of a race.

Its Python client looks for the end once a second only.  So the end of a race is when the last file of an output was made.
"""
# Its imports are in that environment only.
# mypy: ignore-errors

from __future__ import annotations

import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.client import Client
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    directory, cpus, jobs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with LocalCluster(server_dir=str(directory / "server"), worker_config=WorkerConfig(cores=cpus)) as cluster:
        print(_race(cluster.client(), directory / "files", jobs))


def _race(client: Client, files: Path, jobs: int) -> float:
    files.mkdir()
    begin = time.time()
    job = Job(default_workdir=files)
    for number in range(jobs):
        job.program(["true"], stdout=str(files / f"{number}.out"), stderr=str(files / f"{number}.err"))
    client.wait_for_jobs([client.submit(job)])
    made = [file.stat().st_mtime for file in files.iterdir()]
    if len(made) != 2 * jobs:
        raise RuntimeError(f"{len(made)} files of {jobs} jobs")
    return max(made) - begin


if __name__ == "__main__":
    main()
