"""A bare loop that submits jobs through a DRMAA library: `python -m benchmarks.bare_drmaa JOBS` prints the seconds that it took.

A program of its own, because a library is loaded once in a process, with the environment that the process was started with.
"""

from __future__ import annotations

import sys
import time

NAME = "bare-"
"""how the jobs' names begin"""


def main() -> None:
    """One template for all jobs, of which the same attributes are set for each job as execd sets."""
    import drmaa

    with drmaa.Session() as session:
        template = session.createJobTemplate()
        template.workingDirectory, template.outputPath, template.joinFiles = "/", ":/dev/null", True
        began = time.perf_counter()
        for number in range(int(sys.argv[1])):
            template.jobName = f"{NAME}{number}"
            template.remoteCommand = "/bin/true"
            template.nativeSpecification = "-r n"
            session.runJob(template)
        print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
