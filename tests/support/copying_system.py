"""The sources of execution systems for tests that run a job script as a plain process, more often than they should."""

COPYING = '''
import os
import signal
import subprocess
from pathlib import Path

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


@execution_systems.register
class Copying(execution_systems.ExecutionSystem):
    """Submits without looking whether it did before.  A job named `stop` stops the first process that is about to submit it."""

    def run(self, job):
        noted = Path(job.dir).parent / f"{job.safe_id}.submitted"
        with noted.open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        if job.name == "stop" and len(noted.read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        script = subprocess.Popen(["sh", execution_systems.script(job)], start_new_session=True)
        return f"{script.pid}"

    def get_status(self, job):
        return Status.RUNNING

    def kill(self, job):
        pass
'''

LATE = '''
import subprocess

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


@execution_systems.register
class Late(execution_systems.ExecutionSystem):
    """Knows nothing of a job that it took, and starts it when there is a file `go` in the job's directory."""

    def run(self, job):
        script = execution_systems.script(job)
        wait = \'while [ ! -e "$1/go" ]; do sleep 0.02; done; sh "$2"; : >"$1/over"\'
        subprocess.Popen(["sh", "-c", wait, "sh", job.dir, script], start_new_session=True)
        return "7"

    def get_status(self, job):
        return Status.UNKNOWN

    def kill(self, job):
        pass
'''

TWICE = '''
import subprocess
import time
from pathlib import Path

from execution_engine.jobs.status import Status
from execution_engine.systems import execution_systems


@execution_systems.register
class Twice(execution_systems.ExecutionSystem):
    """Starts every job twice, and tells the id of the copy that came too late."""

    def run(self, job):
        first = self._start(job)
        (Path(job.dir) / "first").write_text(first)
        while not (Path(job.dir) / ".execd" / "started").exists():
            time.sleep(0.01)
        return self._start(job)

    def _start(self, job):
        return str(subprocess.Popen(["sh", execution_systems.script(job)], start_new_session=True).pid)

    def find(self, job):
        return (Path(job.dir) / "first").read_text()

    def get_status(self, job):
        try:
            state = Path(f"/proc/{job.execution.job_no}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return Status.FINISHED
        return Status.FINISHED if state == "Z" else Status.RUNNING

    def kill(self, job):
        pass
'''
